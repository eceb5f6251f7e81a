# Repositories inside the working tree: their files, not a commit number.

# changes COMMIT: what our index changes in COMMIT, a line each, into $own/changes.
changes() { git diff-index --cached --raw --no-renames "$1" >"$own/changes"; }

# Repositories inside the working tree would be recorded as a mere commit number: take their files instead. A repository
# that the agent committed that way itself is found by comparing with the base.
embed_all() { # embed_all COMMIT
    changes "$1" || return 1
    : >"$own/committed"
    [ "$1" = "$base" ] || git diff-tree -r --raw --no-renames "$base" "$1" >"$own/committed" 2>/dev/null
    if ! grep -h '^:...... 160000 ' "$own/changes" "$own/committed" >"$own/links" && [ -z "$unborn" ]; then
        return 0
    fi
    cut -f 2- "$own/links" | sort -u >"$own/repositories"
    printf '%s' "$unborn" >"$own/unborn"
    while IFS= read -r path; do
        unquote "$path"
        embed "$path"
    done <"$own/repositories"
    while IFS= read -r path; do
        embed "$path"
    done <"$own/unborn"
    changes "$1"
}

embed() {
    if [ -f .gitmodules ] && grep -qxF "${tab}path = $1" .gitmodules; then
        note "of a submodule only the commit number is returned, not the content" "$1"
        return
    fi
    git update-index --force-remove -- "$1" 2>/dev/null
    if [ -f "$1/.git" ] && head -c 4096 <"$1/.git" | grep -aq '/worktrees/'; then
        leave "left out: what is not committed in a working tree of another branch" "$1"
        return
    fi
    [ -d "$1" ] || return
    (cd -- "./$1" && find . -type f ! -perm -u+r -printf '%P\n') >"$own/hidden" 2>/dev/null # hide_endless
    if ! (export GIT_INDEX_FILE="$own/none" GIT_WORK_TREE="$top/$1" && git ls-files -o --exclude-standard -z) >"$own/inside" 2>"$own/warned" ||
        grep -aq 'could not open directory' "$own/warned" ||
        ! grep -zv '/$' "$own/inside" | grep -azvxFf "$own/hidden" | (cd -- "./$1" && git update-index -z --add --stdin) 2>/dev/null; then
        leave "left out: some files of an inner repository" "$1"
    fi
    note "an inner repository gave its files, not its history" "$1"
    inner=$(grep -z '/$' "$own/inside" | tr '\0' '\n')
    [ -z "$inner" ] || printf '%s\n' "$inner" | while IFS= read -r deeper; do
        embed "$1/${deeper%/}"
    done
}
