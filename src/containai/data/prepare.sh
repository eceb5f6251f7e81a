# Inside the container, before the agent: check the session's branch out. Where the host has not written a .git
# (workspace/seed.py), clone it into the empty workspace first.
#
#   prepare.sh URL BRANCH DEPTH NAME EMAIL DIRECTORY [SUBMODULE PATH ...]
#
# DEPTH 0 is the whole history. The remote is called "local"; there is no other, and no tag.
# "git push", "git push local" and "git pull" then do what one expects of them.
set -eu
url=$1 branch=$2 depth=$3 name=$4 email=$5 directory=$6

cd -- "$directory"
export MALLOC_TRIM_THRESHOLD_=16777216 MALLOC_TOP_PAD_=2097152
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0 GIT_LFS_SKIP_SMUDGE=1

if [ -e .git/HEAD ]; then
    # protectHFS as at the return: what it would refuse then is refused before the agent has worked.
    git -c core.hooksPath=/dev/null -c core.protectHFS=true read-tree --reset -u HEAD
    # Submodules, as NAME PATH pairs: the host has written their git directories (workspace/submodules.py).
    shift 6
    while [ $# -ge 2 ]; do
        if [ -d "$2" ] && ! [ -L "$2" ]; then # a sparse checkout may leave it out
            up=$(printf '%s/' "$2" | sed 's,[^/]*/,../,g')
            printf 'gitdir: %s.git/modules/%s\n' "$up" "$1" >"$2/.git"
            git -C "$2" -c core.hooksPath=/dev/null -c core.protectHFS=true read-tree --reset -u HEAD
        fi
        shift 2
    done
    # The content of Git LFS files takes the place of their pointers: the host has put it there (workspace/lfs.py).
    if [ -f .git/containai-lfs ]; then
        while IFS= read -r line; do
            oid=${line%%  *} path=${line#*  } more=${line#??}
            ! [ -f "$path" ] || cat ".git/lfs/objects/${line%"${line#??}"}/${more%"${more#??}"}/$oid" >"$path"
        done <.git/containai-lfs
        sed 's/^[^ ]*  //' .git/containai-lfs | git update-index --assume-unchanged --stdin
    fi
    exit 0
fi

set --
if [ "$depth" -gt 0 ]; then
    set -- --depth="$depth"
fi

# core.fsync: what is cloned here still stands on the host; a crash loses nothing.
git -c core.fsync=none -c core.hooksPath=/dev/null -c core.protectHFS=true -c protocol.version=0 \
    clone --quiet --origin local --branch "$branch" --single-branch --no-tags --template= "$@" \
    -c user.name="$name" -c user.email="$email" -c push.default=upstream -c remote.pushDefault=local \
    -- "$url" .

# Tools append to .git/info/exclude; without git's templates its directory would be missing.
mkdir -p .git/info
