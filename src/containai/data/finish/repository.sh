# The agent's repository, as data: a git directory of our own on its objects, and what its refs name.

# Where the workspace's git directory is; empty when there is none that could be used.
find_theirs() {
    theirs=$top/.git
    if [ -f "$theirs" ]; then
        theirs=$(first_line "$theirs")
        theirs=${theirs#gitdir: }
        case $theirs in /*) ;; *) theirs=$top/$theirs ;; esac
    fi
    if ! [ -d "$theirs/objects" ] || ! [ -w "$theirs/objects" ] || ! [ -d "$theirs/refs" ] || ! [ -f "$theirs/HEAD" ]; then
        theirs=
    fi
}

# make_own OBJECTS [FILE ...]: our git directory, on these objects, with these files of the agent's linked in.
make_own() {
    own=${TMPDIR:-/tmp}/containai-finish.$$.${own_count:=0}
    own_count=$((own_count + 1))
    export GIT_DIR="$own" GIT_WORK_TREE="$top" GIT_INDEX_FILE="$own/index" GIT_OBJECT_DIRECTORY="$1"
    shift
    mkdir -m 700 "$own" "$own/info" || return 1
    [ $# -eq 0 ] || ln -s "$@" "$own/" || return 1
    [ -d "$own/refs" ] || mkdir "$own/refs" || return 1
    version=0 format=
    if [ ${#base} -eq 64 ]; then
        version=1 format='[extensions] objectFormat = sha256'
    fi
    printf '%s\n' "$base" >"$own/HEAD"
    # sparseCheckout: files that are there although marked as left out count as there.
    # alternateRefsCommand: git else asks the repository of each alternate for its refs, under that repository's configuration.
    printf '%s\n' '[core]' "repositoryformatversion = $version" 'bare = false' 'fsmonitor = false' \
        'hooksPath = /dev/null' 'untrackedCache = false' 'sparseCheckout = true' 'fsync = none' \
        'protectHFS = true' 'protectNTFS = true' 'quotePath = true' 'logAllRefUpdates = false' \
        'commitGraph = false' 'multiPackIndex = false' 'alternateRefsCommand = true' \
        'attributesFile = /dev/null' 'excludesFile = /dev/null' \
        '[pack] window = 0' 'compression = 1' '[gc] auto = 0' '[maintenance] auto = false' '[advice] addEmbeddedRepo = false' \
        '[protocol] version = 0' 'allow = never' '[protocol "git"] allow = always' \
        '[submodule] recurse = false' \
        "$format" >"$own/config"
}

# resolve REF: the commit that a ref of the agent's names, or nothing.
resolve() {
    if [ -f "$theirs/$1" ] && ! [ -L "$theirs/$1" ]; then
        value=$(first_line "$theirs/$1")
        if is_commit "$value"; then
            printf %s "$value"
            return
        fi
    fi
    git rev-parse --verify --quiet "$1^{commit}" 2>/dev/null
}

# Sets head (what is checked out) and tip (the session's branch); either may be empty.
read_heads() {
    head=$(first_line "$theirs/HEAD")
    case $head in
    'ref: refs/'*) head=$(resolve "${head#ref: }") ;;
    *) is_commit "$head" || head= ;;
    esac
    tip=$(resolve "refs/heads/$branch")
    for state in rebase-merge rebase-apply MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD; do
        ! [ -e "$theirs/$state" ] || note "git was in the middle of something ($state); the files are committed as they were"
    done
}
