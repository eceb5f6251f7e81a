"""What developers' tools need, tried in a session: each does real work there, or is refused as docs/tools.md says."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest

from tests.support.product import PATH, Product

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Programs that have to be there, a script, and what it has to print last."""

    needs: tuple[str, ...]
    script: str
    prints: str


_JAVA = (
    "public class A { public static void main(String[] a) throws Exception {"
    " var pool = java.util.concurrent.Executors.newFixedThreadPool(8); var n = new java.util.concurrent.atomic.AtomicInteger();"
    " for (int i = 0; i < 100; i++) pool.submit(n::incrementAndGet); pool.shutdown();"
    " pool.awaitTermination(9, java.util.concurrent.TimeUnit.SECONDS);"
    ' System.out.println(new String(new ProcessBuilder("echo", "java " + n).start().getInputStream().readAllBytes())); } }'
)
_GO = (
    'package main\nimport ("fmt"; "os/exec"; "sync")\nfunc main() { var w sync.WaitGroup; for i := 0; i < 50; i++ {'
    ' w.Add(1); go func() { defer w.Done() }() }; w.Wait(); o, e := exec.Command("echo", "go 50").Output();'
    " fmt.Println(string(o[:5]), e) }"
)
_CSHARP = (
    "using System; using System.Net; using System.Net.Sockets; using System.Threading; using System.Threading.Tasks;"
    " using System.Diagnostics; class A { static void Main() { int n = 0; var t = new Task[100];"
    " for (int i = 0; i < 100; i++) t[i] = Task.Run(() => Interlocked.Increment(ref n)); Task.WaitAll(t);"
    " var l = new TcpListener(IPAddress.Loopback, 0); l.Start();"
    " new TcpClient().Connect((IPEndPoint)l.LocalEndpoint); GC.Collect();"
    ' var p = Process.Start(new ProcessStartInfo("/bin/echo", "net " + n)'
    " { RedirectStandardOutput = true, UseShellExecute = false });"
    " Console.WriteLine(p.StandardOutput.ReadToEnd().Trim()); } }"
)
_DOTNET = (
    '{"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "3.1.0"}, "rollForward": "Major"}}'
)
_NODE = (
    "const { Worker } = require('worker_threads'); const { execSync } = require('child_process');"
    "new Worker('require(\"worker_threads\").parentPort.postMessage(6 * 7)', { eval: true })"
    ".on('message', n => console.log(execSync('echo node ' + n).toString().trim()))"
)
_POOL = (
    "import multiprocessing as m, sqlite3, ssl, threading\n"
    "if __name__ == '__main__':\n"
    "    with m.Pool(4) as pool: n = sum(pool.map(abs, range(-100, 0)))\n"
    "    db = sqlite3.connect('a.db'); db.execute('create table t(x)'); db.commit()\n"
    "    t = threading.Thread(target=lambda: None); t.start(); t.join()\n"
    "    print('pool', n)\n"
)
TOOLS = {
    "git": Tool(
        needs=("git",),
        script="git init -q a && cd a && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git gc -q"
        " && git worktree add -q ../b && git -C ../b log --format=git-%s",
        prints="git-x",
    ),
    "make and cc": Tool(
        needs=("make", "cc"),
        script='for i in 1 2 3 4; do echo "int f$i(void) { return $i; }" > f$i.c; done\n'
        "cat > m.c <<'E'\n#include <stdio.h>\nint f4(void); int main(void) { printf(\"built %d\", f4()); }\nE\n"
        "printf 'm: f1.o f2.o f3.o f4.o m.o\\n\\tcc -o m $^\\n' > Makefile; make -s -j2 && ./m && echo",
        prints="built 4",
    ),
    "Python: venv and pip": Tool(
        needs=("python3",),
        script="python3 -m venv --help >/dev/null && python3 -m venv v && mkdir p && echo 'x = 1' > p/mod.py &&"
        " v/bin/python -m pip --version | cut -c1-3",
        prints="pip",
    ),
    "Python: processes, threads, SQLite": Tool(
        needs=("python3",), script=f"cat > p.py <<'E'\n{_POOL}E\npython3 p.py", prints="pool 5050"
    ),
    "Node.js: workers and processes": Tool(
        needs=("node",), script=f"cat > a.js <<'E'\n{_NODE}\nE\nnode a.js", prints="node 42"
    ),
    "Node.js that asks for io_uring": Tool(
        needs=("node",),
        script='UV_USE_IO_URING=1 node -e \'require("fs").readFile("/etc/hostname", (e, d) => console.log("read", d.length))\'',
        prints="read 10",
    ),
    "npm": Tool(
        needs=("npm",),
        script='mkdir p app && echo \'{"name":"p","version":"1.0.0","scripts":{"install":"echo ran > ran"}}\' > p/package.json'
        " && cd app && npm init -y >/dev/null && (cd ../p && npm pack --silent >/dev/null) &&"
        " npm install --silent --offline --no-audit --no-fund ../p/p-1.0.0.tgz >&2 && cat node_modules/p/ran",
        prints="ran",
    ),
    "Java": Tool(needs=("javac",), script=f"cat > A.java <<'E'\n{_JAVA}\nE\njavac A.java && java A", prints="java 100"),
    "C#: Mono": Tool(
        needs=("mcs", "mono"), script=f"cat > A.cs <<'E'\n{_CSHARP}\nE\nmcs A.cs && mono A.exe", prints="net 100"
    ),
    "C#: .NET": Tool(
        needs=("mcs", "dotnet"),
        script=f"cat > A.cs <<'E'\n{_CSHARP}\nE\necho '{_DOTNET}' > A.runtimeconfig.json; mcs -out:A.dll A.cs &&"
        " DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 dotnet A.dll",
        prints="net 100",
    ),
    "Go": Tool(
        needs=("go",),
        script=f"cat > a.go <<'E'\n{_GO}\nE\nGOFLAGS=-mod=mod GOTOOLCHAIN=local go build -o a a.go && ./a",
        prints="go 50 <nil>",
    ),
    "Rust: cargo": Tool(
        needs=("cargo",),
        script="cargo init -q --name a a && cd a && cargo build -q --offline && ./target/debug/a",
        prints="Hello, world!",
    ),
    "Perl": Tool(needs=("perl",), script="perl -e 'print `echo perl`'", prints="perl"),
    "Ruby": Tool(needs=("ruby",), script="ruby -e 'Thread.new { 1 }.join; puts `echo ruby`'", prints="ruby"),
    "a terminal of its own": Tool(
        needs=("script",), script="script -qec 'tty | cut -c1-8' /dev/null", prints="/dev/pts"
    ),
    "rsync and tar": Tool(
        needs=("rsync", "tar"),
        script="mkdir a && echo synced > a/f && rsync -a a/ b/ && tar -cf - b | tar -xf - -C /tmp && cat /tmp/b/f",
        prints="synced",
    ),
    "Chromium, headless": Tool(
        needs=("chromium",),
        script="echo '<title>x</title><p id=a>shown</p><script>a.textContent += 40 + 2</script>' > /tmp/a.html;"
        " chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run"
        " --disable-background-networking --disable-component-update --user-data-dir=/tmp/c --dump-dom file:///tmp/a.html"
        " 2>/dev/null | grep -o 'shown42'",
        prints="shown42",
    ),
}
# What the filter refuses on purpose, and what the tool then says.
REFUSED = {
    "strace": Tool(needs=("strace",), script="strace -o /dev/null true", prints="Operation not permitted"),
    "gdb": Tool(needs=("gdb",), script="gdb -q -batch -ex run /bin/true", prints="Operation not permitted"),
    "Chromium with its own sandbox": Tool(
        needs=("chromium",),
        script="chromium --headless --disable-gpu --user-data-dir=/tmp/c --dump-dom about:blank",
        prints="No usable sandbox",
    ),
    "unshare": Tool(needs=("unshare",), script="unshare -r true", prints="Operation not permitted"),
}


def skip_without(tool: Tool) -> None:
    for program in tool.needs:
        if not shutil.which(program, path=PATH):
            pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_does_its_work(product: Product, name: str) -> None:
    tool = TOOLS[name]
    skip_without(tool)
    ran = product.run(f"cd /tmp && mkdir w && cd w && {{ {tool.script}\n}}", "--network-proxy", "none", timeout_s=140)
    assert ran.printed.strip().endswith(tool.prints), ran.stderr
    assert ran.status == 0


@pytest.mark.parametrize("name", REFUSED)
def test_a_tool_is_refused_and_says_why(product: Product, name: str) -> None:
    tool = REFUSED[name]
    skip_without(tool)
    ran = product.run(f"cd /tmp; {tool.script}", "--network-proxy", "none", timeout_s=140)
    assert tool.prints in ran.printed, ran.stderr
