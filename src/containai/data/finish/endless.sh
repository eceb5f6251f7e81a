# Files that are larger than what can be returned. Git reads a file to its end, and one can claim terabytes in a hole.
#
# They are left out and named, each of more than 1 GiB (git_return/limits.py), and where files with holes claim more
# together than git could read in time, those. Git is not asked to take them, and cannot open them: until the end their
# owner may not read them. So nothing else that looks at a file on the way is held up either.
ENDLESS_KIB=1048576 HOLES_BYTES=34359738368 named= hidden=

# hide_endless: their names into $endless, with a NUL behind each. A git directory has names and sizes of its own.
hide_endless() {
    endless=${TMPDIR:-/tmp}/containai-finish.$$.endless
    holes=$endless.holes elsewhere=./.git
    [ -z "$theirs" ] || elsewhere=./${theirs#"$top/"}
    find . '(' -path ./.git -o -path "$elsewhere" ')' -prune -o -type f -size +1024k '(' \
        -size +"${ENDLESS_KIB}k" -exec chmod u-r {} + -fprintf "$endless" '%P\0' -o \
        -fprintf "$holes.all" '%s %S %P\0' ')' 2>/dev/null || hidden=x
    ! [ -s "$holes.all" ] || hide_holes
    ! [ -s "$endless" ] || hidden=x
    [ -z "$theirs" ] || [ -z "$(find "$theirs/index" "$theirs/packed-refs" "$theirs/shallow" "$theirs/info" \
        -type f -size +"${ENDLESS_KIB}k" -exec chmod u-r {} + -print 2>/dev/null)" ] || hidden=x
}

hide_holes() {
    # Less than half of what it claims. Source: find(1), %S.
    grep -azE '^[0-9]+ (0|0\.[0-4][0-9]*|[0-9.]+e-[0-9]+) ' "$holes.all" >"$holes"
    if cut -z -d ' ' -f 1 "$holes" | tr '\0' '\n' | {
        total=0
        while read -r bytes; do total=$((total + bytes)); done
        [ $total -gt $HOLES_BYTES ]
    }; then
        cut -z -d ' ' -f 3- "$holes" >>"$endless"
        cut -z -d ' ' -f 3- "$holes" | xargs -0 chmod u-r --
    fi
}

# show_endless: the workspace may stay, and its files are its user's to read.
show_endless() {
    [ -z "$hidden" ] || find . -path ./.git/objects -prune -o -type f ! -perm -u+r -exec chmod u+r {} + 2>/dev/null
}

# name_endless: those of them that would be committed, into $own/endless. Git would take a name for asked for, and so
# complain of an ignored one that it is told to leave out.
name_endless() {
    : >"$own/endless"
    [ -s "$endless" ] || return 0
    # Four fields each; the third is the pattern that decides. Source: git-check-ignore(1), -v -n -z.
    git check-ignore -z -v -n --stdin <"$endless" 2>/dev/null | sed -zn 'n;n;h;n;x;/^$/!{/^!/!b};x;p' >"$own/endless"
    [ -z "$named" ] || return 0
    named=x
    tr '\n\0' '?\n' <"$own/endless" >"$own/shown"
    while IFS= read -r path; do
        case $path in */.git/*) continue ;; esac # of a repository inside: not what is committed
        unchanged "$path" || leave "left out: a file too large to be returned" "$path"
    done <"$own/shown"
}

# unchanged PATH: whether it is as the session was given it, as a file or as one of Git LFS. Read only if it has that size.
unchanged() {
    known=$(git rev-parse --verify --quiet "$base:$1") && size=$(git cat-file -s "$known") || return 1
    digest='git hash-object --no-filters --stdin'
    if [ "$size" -le 1024 ]; then
        git cat-file blob "$known" >"$own/pointer" || return 1
        known=$(sed -n 's/^oid sha256:\([0-9a-f]*\)$/\1/p' "$own/pointer")
        size=$(sed -n 's/^size \([0-9]*\)$/\1/p' "$own/pointer")
        digest=sha256sum
    fi
    [ -n "$known" ] && [ -n "$(find "./$1" -maxdepth 0 -size "${size}c")" ] && chmod u+r -- "./$1" || return 1
    found=$($digest <"./$1")
    chmod u-r -- "./$1"
    [ "${found%% *}" = "$known" ]
}
