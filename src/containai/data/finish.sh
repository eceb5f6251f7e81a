# Inside a fresh container, after the agent's: commit what is left in the workspace and push it to the host.
#
#   finish.sh URL BRANCH BASE SESSION CONFIG NAME EMAIL DIRECTORY
#
# The workspace is the agent's making and may be hostile or broken. Its git configuration, hooks, filters, and state
# files are never used: git works with a directory of our own ($own), which borrows the workspace's objects and refs.
#
# A repository inside the working tree has a configuration too. Git enters one where its index names it as a commit
# number (mode 160000, a "link" below), and starts there whatever that configuration says. So no link is in our index
# while git compares it with the files: set_links_aside, put_links_back.
#
# Which commit is pushed:
#   - what is on disk, committed onto HEAD; with the session's branch as a further parent where the two have parted;
#   - the branch itself, if HEAD is merely an older commit of it and nothing on disk was changed;
#   - if the workspace's repository cannot be used: what is on disk, committed onto what was pushed last.
# What was pushed earlier is kept as a parent, unless the workspace knew it and rewrote it.
#
# Standard output, a line each (the host parses it, and trusts none of it). No other program gets that descriptor:
#   containai-finish result COMMIT      what the workspace came to
#   containai-finish committed COUNT    files that had to be committed
#   containai-finish note TEXT          something the user should know
#   containai-finish kept               something stays in the workspace; a line of its own, as notes are bounded
#   containai-finish failed TEXT        nothing could be pushed
set -u
exec 3>&1 1>&2
url=$1 branch=$2 base=$3 session=$4 config=$5 name=$6 email=$7 directory=$8

cd -- "$directory" || exit 1
top=$(pwd -P)
tab=$(printf '\t')
unset GIT_CONFIG GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_NAMESPACE
export LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1
export GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0 GIT_NO_REPLACE_OBJECTS=1 GIT_NO_LAZY_FETCH=1 GIT_PROTOCOL=
export GIT_AUTHOR_NAME="$name" GIT_AUTHOR_EMAIL="$email" GIT_COMMITTER_NAME="$name" GIT_COMMITTER_EMAIL="$email"

git() { command git "$@" 3>&-; }

say() { printf 'containai-finish %s\n' "$*" >&3; }

# quoted TEXT [WIDTH]: the agent's words as they may stand in a line of ours: cut, and in quotes that they cannot close.
quoted() {
    width=${2:-60}
    printf "'%s'" "$(printf "%.${width}s" "$1" | tr '\000-\037\177' '?' | tr \' '"')"
    [ ${#1} -le "$width" ] || printf '...'
}

# tell SENTENCE [WORDS]: the sentence is ours, the words behind it are the agent's: a name, or what git said of one.
tell() { say note "$1${2:+: $(quoted "$2")}"; }

# The host keeps the first bytes of what it is told: each kind of note ends before it would push the result out.
MOST_NOTES=100 noted=0 stayed=0

keep() { # printed once, and before any note that comes with it
    [ $stayed -gt 0 ] || say kept
    stayed=$((stayed + 1))
}

note() {
    noted=$((noted + 1))
    if [ $noted -le $MOST_NOTES ]; then tell "$@"; else keep; fi
}

# leave SENTENCE [WORDS]: a note about work that stays in the workspace. It begins with "not returned" or "left out".
leave() {
    keep
    [ $stayed -gt $MOST_NOTES ] || tell "$@"
}

# first_line FILE: its first line, or what it has of one. The shell reads byte by byte, and to a line feed.
first_line() { head -c 4096 <"$1" | { IFS= read -r line; printf %s "$line"; }; }

is_commit() {
    case $1 in '' | *[!0-9a-f]*) return 1 ;; esac
    [ ${#1} -eq ${#base} ]
}

contains() { git merge-base --is-ancestor "$2" "$1" 2>/dev/null; } # contains NEWER OLDER

# --- the agent's repository, as data ---------------------------------------------------------------------------------

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

# --- what is on disk -------------------------------------------------------------------------------------------------

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
        said=$(git add $all --sparse "$@" -- . $excluded 2>&1) && return 0
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
    begin_index "$1" && stage_files && put_links_back
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
    if ! (export GIT_INDEX_FILE="$own/none" GIT_WORK_TREE="$top/$1" && git ls-files -o --exclude-standard -z) >"$own/inside" 2>"$own/warned" ||
        grep -aq 'could not open directory' "$own/warned" ||
        ! grep -zv '/$' "$own/inside" | (cd -- "./$1" && git update-index -z --add --stdin) 2>/dev/null; then
        leave "left out: some files of an inner repository" "$1"
    fi
    note "an inner repository gave its files, not its history" "$1"
    inner=$(grep -z '/$' "$own/inside" | tr '\0' '\n')
    [ -z "$inner" ] || printf '%s\n' "$inner" | while IFS= read -r deeper; do
        embed "$1/${deeper%/}"
    done
}

# --- the commit ------------------------------------------------------------------------------------------------------

# Reads $own/changes and writes $own/message: a factual summary. Sets count. Names that git has to quote stay quoted: no
# byte of a file name reaches the message but printable ASCII. A message of the agent's takes the summary's place.
write_message() {
    count=0 more=0 adds=0 removes=0 only=
    : >"$own/list"
    {
        while [ $count -lt 20 ] && IFS= read -r line; do
            count=$((count + 1))
            line=${line#* * * * } # modes and hashes
            case $line in
            A*) adds=$((adds + 1)) ;;
            D*) removes=$((removes + 1)) ;;
            esac
            only=${line#*"$tab"}
            printf '    %.1s %.120s\n' "$line" "$only" >>"$own/list"
        done
        [ $count -lt 20 ] || more=$(wc -l)
    } <"$own/changes"
    if [ "$more" -gt 0 ]; then
        count=$((count + more))
        printf '    and %d more\n' "$more" >>"$own/list"
    fi
    case $((count - adds)),$((count - removes)) in
    0,*) verb=Add ;;
    *,0) verb=Remove ;;
    *) verb=Change ;;
    esac
    what="$count files"
    if [ $count -eq 1 ]; then
        case $only in '"'* | *[!\ -~]*) what='1 file' ;; *) what=$only ;; esac
        [ ${#what} -le 60 ] || what='1 file'
    fi
    {
        if offered; then
            cat "$own/offered"
        else
            printf '%s %s\n\nLeft in the working tree when the session ended:\n\n' "$verb" "$what"
            cat "$own/list"
        fi
        trailers
    } >"$own/message"
}

# The message that the agent offers, cleaned (message.sh), into $own/offered. $CONTAINAI_COMMIT_MESSAGE tells it where.
offered() {
    [ -d .git ] && ! [ -L .git ] || return 1
    [ -f .git/CONTAINAI_COMMIT_MESSAGE ] && ! [ -L .git/CONTAINAI_COMMIT_MESSAGE ] || return 1
    clean_message <.git/CONTAINAI_COMMIT_MESSAGE >"$own/offered" 2>/dev/null && [ -s "$own/offered" ]
}

# What stands at the end of every message of ours. A session of an earlier version has no digest of its configuration.
trailers() {
    printf '\nContainai-Session: %s\n' "$session"
    [ -z "$config" ] || printf 'Containai-Config: %s\n' "$config"
}

# commit PARENT ...: what is staged, as it differs from the first parent; sets result.
commit() {
    tree=$(git write-tree 2>/dev/null) || return 1
    write_message
    for parent; do
        shift
        set -- "$@" -p "$parent"
    done
    result=$(git commit-tree "$tree" "$@" -F "$own/message") || return 1
    made=$result
    say committed "$count"
}

# --- the push --------------------------------------------------------------------------------------------------------

push() { said=$(git push --porcelain --no-verify --recurse-submodules=no "$@" "$url" "$result:refs/heads/$branch" 2>&1); }

# Sets remote to what the host has now.
fetch_remote() {
    git fetch --quiet --no-tags --no-recurse-submodules --no-auto-maintenance "$@" "$url" "refs/heads/$branch" 2>/dev/null &&
        IFS="$tab" read -r remote _ <"$own/FETCH_HEAD" && is_commit "$remote"
}

# Whether what we made is there already: an earlier run came this far and was cut off.
is_repeated() {
    [ -n "$made" ] && contains "$remote" "$result^" && git diff-tree --quiet "$remote" "$result" 2>/dev/null
}

# Bring result to the host, whatever stands there.
deliver() {
    push && return 0
    # Once more: what takes the push on the host may have been killed, and these are the agent's own commits.
    case $said in *'[rejected]'*) ;; *) sleep 1 && push && return 0 ;; esac
    case $said in *'[rejected]'*) ;; *) return 1 ;; esac
    fetch_remote || return 1
    if contains "$remote" "$result" || is_repeated; then # pushed from elsewhere or before, and nothing new here
        result=$remote
        return 0
    fi
    if [ -n "$theirs" ] && [ "$(resolve "refs/remotes/local/$branch")" = "$remote" ]; then
        note "commits that had been pushed were rewritten"
        push --force-with-lease="refs/heads/$branch:$remote"
        return
    fi
    note "commits were pushed from elsewhere: the last commit joins both, its content is what was on disk"
    result=$({
        printf 'Join what was pushed with what was on disk\n'
        trailers
    } |
        git commit-tree "$result^{tree}" -p "$remote" -p "$result") && push
}

# --- the two ways ----------------------------------------------------------------------------------------------------

finish_theirs() {
    find_theirs
    [ -n "$theirs" ] || return 1
    set -- "$theirs/refs"
    for file in packed-refs shallow; do
        ! [ -f "$theirs/$file" ] || set -- "$@" "$theirs/$file"
    done
    # Git reads all of such a file, however long it is.
    if find "$theirs/refs/" -type f -size +4096c -exec rm -f {} + -print | grep -q .; then
        leave "not returned: what a ref names whose file is larger than that of any ref"
    fi
    make_own "$theirs/objects" "$@" || return 1
    ! [ -f "$theirs/info/exclude" ] || cp "$theirs/info/exclude" "$own/info/exclude" 2>/dev/null
    read_heads
    start=${head:-$tip}
    [ -n "$start" ] || return 1
    stage "$start" && restore_lfs "$start" && embed_all "$start" || return 1

    set -- "$start"
    if [ -n "$tip" ] && [ "$tip" != "$start" ] && ! contains "$start" "$tip"; then
        if contains "$tip" "$start"; then
            set -- "$tip"
        else
            set -- "$tip" "$start"
            note "$branch and what was checked out had parted: the last commit joins both, its content is what was on disk"
        fi
    fi
    if [ -f "$theirs/MERGE_HEAD" ]; then
        [ "$(wc -c <"$theirs/MERGE_HEAD")" -le 4096 ] || leave "not returned: some of the many commits that a merge was to join"
        for merged in $(head -c 4096 <"$theirs/MERGE_HEAD" | tr -cd '0-9a-f\n'); do
            ! is_commit "$merged" || contains "$start" "$merged" || set -- "$@" "$merged"
        done
    fi
    result=$1
    if [ -s "$own/changes" ] || [ $# -gt 1 ]; then
        [ "$1" = "$start" ] || changes "$1"
        commit "$@" || return 1
    fi
    [ "$result" = "$base" ] || deliver
}

# Without the agent's repository: its files, onto what the host has.
finish_files() {
    theirs=
    store=$top/.git/containai-objects
    mkdir -p "$store" 2>/dev/null || store=${TMPDIR:-/tmp}/containai-objects.$$
    mkdir -p "$store" && make_own "$store" && fetch_remote --depth=1 || return 1
    stage "$remote" && embed_all "$remote" || return 1
    result=$remote
    ! [ -s "$own/changes" ] || { commit "$remote" && push; }
}

# Commits that are not returned: the user learns of them, and they stay in the workspace.
other_work() {
    git for-each-ref --no-merged="$result" --format='%(refname)' refs/heads refs/stash >"$own/others" 2>/dev/null ||
        leave "not returned: what branches and stash may hold, as git cannot read all of them"
    while IFS= read -r ref; do
        case $ref in
        refs/stash) leave "not returned: commits of the stash" ;;
        *) leave "not returned: commits of another branch" "${ref#refs/heads/}" ;;
        esac
    done <"$own/others"
}

made=
mend_files
if finish_theirs; then
    other_work
else
    why=$(printf '%s' "${said:-}" | head -n 1)
    # A repository that is there may hold commits: the host keeps the workspace, and recover tries again.
    [ -z "$theirs" ] || leave "not returned: commits that no push brought home"
    note "the workspace's repository could not be used; its files are committed onto what was pushed last${why:+. Git said}" "$why"
    if ! finish_files; then
        why=$(printf '%s' "${said:-}" | tail -n 3 | tr '\n' ' ')
        say failed "${why:+git said: $(quoted "$why" 150)}"
        exit 1
    fi
fi
say result "$result"
