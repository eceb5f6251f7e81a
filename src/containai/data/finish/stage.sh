# What is on disk, into our index.

# A named pipe where git looks for rules, objects or refs would make it wait for ever.
remove_pipes() { find . '(' -type p -o -type s ')' -exec rm -f {} + 2>/dev/null; }

# Files that the agent made unreadable are its own: make them readable.
mend_files() {
    find . -path ./.git -prune -o -type d ! -perm -u+rx -exec chmod u+rwx {} \; 2>/dev/null
    find . -path ./.git -prune -o -type f ! -perm -u+r -exec chmod u+r {} + 2>/dev/null
    remove_pipes
}

# Takes the links out of our index, and remembers them in $own/aside, in the words of "git ls-files -s -t". Fails where
# the index cannot be read, or a link is still in it.
set_links_aside() {
    { git ls-files -s -t 2>/dev/null || echo broken; } | grep -a -e '^. 160000 ' -e '^broken$' >"$own/found" || return 0
    ! grep -qx broken "$own/found" || return 1
    cat "$own/found" >>"$own/aside"
    sed 's/^. 160000 /0 /' "$own/found" | git update-index --index-info 2>/dev/null || return 1 # mode 0 removes
    ! git ls-files -s | grep -aq '^160000 '
}

# Whether something is at PATH for git, which follows no link on the way.
is_there() {
    up= rest=$1
    while [ "$rest" != "${rest#*/}" ]; do
        up=$up${rest%%/*} rest=${rest#*/}
        ! [ -L "$up" ] || return 1
        up=$up/
    done
    [ -e "$1" ] || [ -L "$1" ]
}

# What git would have kept of the links: one whose folder holds no repository that was added anew, and one that a sparse
# checkout leaves out. One whose folder is gone has been deleted.
put_links_back() {
    [ -s "$own/aside" ] || return 0
    git ls-files -s | grep -a '^160000 ' | cut -f 2- >"$own/present"
    while IFS= read -r line; do
        quoted=${line#*"$tab"} hash=${line#? 160000 }
        ! grep -qxFe "$quoted" "$own/present" || continue
        unquote "$quoted"
        if is_there "$path"; then
            [ -d "$path" ] && ! [ -L "$path" ] || continue
        else
            case "$all $line" in --no-all* | '-A S 160000 '*) ;; *) continue ;; esac
        fi
        printf '160000 %s\t%s\n' "${hash%% *}" "$quoted"
    done <"$own/aside" | git update-index --index-info
}

# unquote NAME: sets path to what git means with a name that it may have quoted.
unquote() {
    path=$1
    case $path in
    '"'*) # git's quoting is printf's, but for the quotation mark: see git-config(1), core.quotePath
        path=${path#\"}
        path=$(printf '%s' "${path%\"}" | sed 's/%/%%/g; s/\\"/\\042/g')
        # shellcheck disable=SC2059  # that is the point
        path=$(printf "${path}x") # the x keeps line feeds at the end
        path=${path%x}
        ;;
    esac
}

# add [OPTION ...]: stage everything. A repository without a commit stops git: it is left to embed(), and git asked again.
# So does a file whose path is too long: its folder is left out. Each costs another look at everything, so not for ever.
add() {
    while :; do
        set_links_aside || return 1
        # shellcheck disable=SC2086  # $excluded is words: names without a space
        printf '%s\0' . $excluded >"$own/paths"
        ! [ -s "$own/endless" ] || sed -z 's/^/:(exclude,literal)/' "$own/endless" >>"$own/paths"
        said=$(git add $all --sparse "$@" --pathspec-from-file="$own/paths" --pathspec-file-nul 2>&1) && return 0
        case $said in
        *"' does not have a commit checked out"*)
            found=${said%%"/' does not have a commit checked out"*}
            found=${found##*"error: '"}
            case $found in *[!A-Za-z0-9._/+-]* | '') return 1 ;; esac
            excluded="$excluded :(exclude,literal)$found"
            unborn="$unborn$found
"
            ;;
        *"fatal: unable to stat '"*/*) # git cuts what it says at 4,096 bytes: the reason may not be there
            found=${said##*"fatal: unable to stat '"}
            found=${found%/*}
            case $found in *[!A-Za-z0-9._/+-]* | '') return 1 ;; esac
            [ $rounds -lt 20 ] || return 1
            rounds=$((rounds + 1))
            excluded="$excluded :(exclude,literal)$found"
            leave "left out: a folder with files whose path is too long for git" "$found"
            ;;
        *) return 1 ;;
        esac
    done
}

# begin_index COMMIT: our index. A copy of the agent's, for its knowledge of what is unchanged and what a sparse checkout
# leaves out; where that cannot be used, what COMMIT has. Then nothing tells a deleted file from one that was left out,
# so with a sparse checkout no deletion is taken over.
begin_index() {
    all=-A
    : >"$own/aside"
    if [ -n "$theirs" ] && [ -f "$theirs/index" ] && cp -p "$theirs/index" "$own/index" 2>/dev/null && set_links_aside; then
        git update-index -q --really-refresh >/dev/null 2>&1 # ignores "assume unchanged"; 128 is an index it cannot read
        [ $? -ge 128 ] || return 0
    fi
    ! [ -f .git/info/sparse-checkout ] || all=--no-all
    rm -f "$own/index" "$own/index.lock"
    : >"$own/aside"
    git read-tree "$1" 2>/dev/null
}

# restore_lfs COMMIT: Git LFS files whose content was given and not changed are their pointers again in our index.
restore_lfs() {
    [ -n "$theirs" ] && [ -f "$theirs/containai-lfs" ] || return 0
    # Bounded by what the host writes (workspace/lfs.py); a content that is not looked at is returned as a plain file.
    head -c 4194304 <"$theirs/containai-lfs" | head -n 20000 | while IFS= read -r line; do
        oid=${line%%  *} path=${line#*  }
        case $path in /* | ../* | */../*) continue ;; esac
        if ! [ -e "$path" ] && ! [ -L "$path" ] && ! [ -f .git/info/sparse-checkout ]; then
            git update-index --force-remove -- "$path"
        fi
        [ -f "$path" ] || continue
        sum=$(sha256sum <"$path")
        if [ "${sum%% *}" = "$oid" ]; then
            git --literal-pathspecs ls-tree --full-tree "$1" -- "$path" | git update-index --index-info
        elif ! git --literal-pathspecs diff-index --quiet --cached "$1" -- "$path"; then
            note "Git LFS does not know the new content of a file, which is returned as a plain file" "$path"
        fi
    done
    return 0
}

# stage COMMIT: the working tree into our index.
stage() {
    excluded= unborn= said= rounds=0
    begin_index "$1" && name_endless && stage_files && put_links_back
}

stage_files() {
    stage_readable
    # No error for git: it goes on without such a folder. One below a path of 4,096 bytes cannot be opened by its name.
    case $said in
    *'warning: could not open directory'*)
        why=$(printf '%s\n' "$said" | sed -n "s/^warning: could not open directory '//p" | head -n 1)
        leave "left out: git cannot open some of the folders. The first" "$why"
        ;;
    esac
    return 0
}

stage_readable() {
    add && return 0
    case $said in
    *encode*) # one file that does not fit its working-tree-encoding stops git, whatever it is told
        mkdir -p "$own/info" && printf '* -working-tree-encoding\n' >"$own/info/attributes"
        note "a file does not fit its working-tree-encoding; files are committed with the bytes they have on disk"
        add && return 0
        ;;
    esac
    add --ignore-errors
    why=$(printf '%s\n' "$said" | sed -n 's/^error: //p; s/^fatal: //p' | head -n 1)
    leave "left out: git cannot take some of the files. It says" "$why"
}
