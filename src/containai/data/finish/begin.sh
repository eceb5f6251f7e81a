# Inside a fresh container, after the agent's: commit what is left in the workspace and push it to the host.
#
#   finish URL BRANCH BASE SESSION CONFIG NAME EMAIL DIRECTORY
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
