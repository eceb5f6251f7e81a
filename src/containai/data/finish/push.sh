# The push, whatever stands on the host.

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
