"""Namespaces, routers and secchat processes for run.py."""
import hashlib, json, os, queue, shutil, signal, subprocess, tempfile, threading, time

KINDS = ['none', 'full-cone', 'cone', 'symmetric']
# A cone router that lets no UDP through, as in some offices and hotels.
BLOCKED = 'no-udp'
# Two addresses of one host: what a router does may depend on whom it speaks to.
SERVER, OTHER = '198.18.0.1', '198.18.0.2'


class Trouble(RuntimeError):
    """A process did not say what was waited for."""


class Process:
    """A secchat process in a namespace; its output is read as it comes, with the time."""

    def __init__(self, lab, who, ns, args, before=()):
        self.who, self.lines, self.said = who, queue.Queue(), []
        self.errors = f'{lab.dir}/{who}.err'
        command = ['ip', 'netns', 'exec', ns, *before, lab.binary, *args]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=open(self.errors, 'a'), text=True, bufsize=1)
        lab.processes.append(self)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        # What measures must not wait for what is measured. This is about this thread only.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)
        for line in self.child.stdout:
            self.lines.put((time.monotonic(), line))
        self.lines.put((0, None))

    def say(self, text):
        self.child.stdin.write(text + '\n')
        self.child.stdin.flush()

    def event(self, kinds, wanted=lambda event: True, within=60):
        """The next event of one of these kinds, and when it came."""
        until = time.monotonic() + within
        while True:
            try:
                at, line = self.lines.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise Trouble(f'{self.who}: none of {kinds} within {within} s; last: {self.said[-3:]}')
            if line is None:
                raise Trouble(f'{self.who} ended; {open(self.errors).read()[-400:]} {self.said[-3:]}')
            self.said.append(line.strip())
            if 'invite' in kinds and 'secchat://' in line:
                return at, next(word for word in line.split() if word.startswith('secchat://'))
            if line.startswith('{'):
                event = json.loads(line)
                if event.get('event') in kinds and wanted(event):
                    return at, event

    def memory(self):
        """KiB that it has now, and that it ever had."""
        fields = dict(line.split(':', 1) for line in open(f'/proc/{self.child.pid}/status') if line.startswith('Vm'))
        return tuple(int(fields[name].split()[0]) for name in ('VmRSS', 'VmHWM'))

    def end(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()


class Stage:
    """A server, and clients of it in two namespaces; how these are joined says a subclass."""
    numbers = iter(range(1 << 20))

    def __init__(self, binary, dir=None):
        self.binary, self.processes = binary, []
        shm = '/dev/shm' if os.path.isdir('/dev/shm') else None
        self.dir = tempfile.mkdtemp(prefix='secchat-nat-', dir=dir or shm)
        self.tag = f'n{os.getpid()}x{next(Stage.numbers)}'

    def serve(self, ns, addresses, *more, data=None):
        listen = [word for address in addresses for word in ('--listen', f'{address}:7443')]
        data = data or f'{self.dir}/server'
        self.server = Process(self, 'server', ns, ['server', *listen, '--name', 's1', '--data', data, *more])
        self.invite = self.server.event(['invite'])[1]

    def client(self, index, who, *more, before=()):
        args = ['client', '--json', '--invite', self.invite, '--name', who, '--data', f'{self.dir}/{who}', *more]
        return Process(self, who, self.ns[index], args, before)

    def pair(self, number, sizes, holder=(), asker=(), before=()):
        """A holder that shares a file of each of these sizes, and an asker who has spoken with it; also the files' paths."""
        share, names = f'{self.dir}/share{number}', (f'alice{number}', f'bob{number}')
        os.makedirs(share)
        paths = [f'{share}/noise{n}.bin' for n in range(len(sizes))]
        for path, size in zip(paths, sizes):
            with open(path, 'wb') as file:
                for at in range(0, size, 1 << 20):
                    file.write(os.urandom(min(1 << 20, size - at)))
        a = self.client(0, names[0], '--room', f'lab{number}', '--create', '--share', share, *holder, before=before)
        a.event(['room_created'])
        b = self.client(1, names[1], '--room', f'lab{number}', '--downloads', f'{self.dir}/got{number}', *asker, before=before)
        b.event(['joined'])
        a.say('@me setglobalshare')
        a.event(['ok'], within=120)
        b.say(f'@{names[0]} hello')
        a.event(['direct'])
        return a, b, names[0], paths

    def down(self):
        for process in self.processes:
            process.end()
        shutil.rmtree(self.dir, ignore_errors=True)


class Routers(Stage):
    """The emulator with two routers of given kinds, and a server at the public host."""

    def __init__(self, binary, wan, holder, asker, flags):
        super().__init__(binary)
        names = {'a': self.tag + 'a', 'b': self.tag + 'b', 'pub': self.tag + 'p'}
        self.ns, self.public = [names['a'], names['b']], ['198.18.0.10', '198.18.0.20']
        types = [{'none': 'full-cone', BLOCKED: 'cone'}.get(kind, kind) for kind in (holder, asker)]
        self.wan = emulator(self, [wan, 'nat', '--a', names['a'], '--b', names['b'], '--pub', names['pub'], '--type-a', types[0],
                                   '--type-b', types[1], *flags])
        self.routers = [ns + '-nat' for ns in self.ns]
        for index, kind in enumerate((holder, asker)):
            if kind == 'none':
                # At home on the router itself, which then neither filters nor translates.
                self.ns[index] += '-nat'
                for chain in ('prerouting', 'postrouting', 'input'):
                    nft(self.ns[index], f'flush chain ip wan {chain}')
            if kind == BLOCKED:
                nft(self.routers[index], 'table inet no { chain f { type filter hook forward priority -10; meta l4proto udp drop; }; }')
        self.serve(names['pub'], (SERVER, OTHER))

    def forward(self, index):
        """The router leads ports 7500 and 7501 to its host, which is told so."""
        nft(self.ns[index] + '-nat', f'add rule ip wan prerouting iifname wan0 udp dport 7500-7501 dnat to 10.77.{index + 1}.2')
        return ['--udp', '0.0.0.0:7500', '--candidate', f'{self.public[index]}:7500']

    def move(self, index):
        """The host gets another address in its network, and so another port at its router."""
        host, net = self.ns[index], f'10.77.{index + 1}'
        run('ip', '-n', host, 'addr', 'del', f'{net}.2/24', 'dev', 'eth0')
        run('ip', '-n', host, 'addr', 'add', f'{net}.3/24', 'dev', 'eth0')
        run('ip', '-n', host, 'route', 'replace', 'default', 'via', f'{net}.1')

    def close_direct(self, closed):
        """Whether the two hosts' datagrams reach nobody but the server."""
        for host in self.ns:
            nft(host, 'delete table inet closed' if not closed else
                f'table inet closed {{ chain o {{ type filter hook output priority 0; ip daddr != {{ {SERVER}, {OTHER} }} meta l4proto udp drop; }}; }}')

    def cut(self, index, seconds):
        """The host's link to the server is reset, and no new one comes about for so long."""
        router = self.routers[index]
        nft(router, 'table inet cut { chain f { type filter hook forward priority -20; '
                    'tcp sport 7443 reject with tcp reset; tcp dport 7443 reject with tcp reset; }; }')
        time.sleep(seconds)
        nft(router, 'delete table inet cut')

    def down(self):
        super().down()
        end_emulator(self.wan)


class Firewalls(Stage):
    """Two hosts with addresses of both families in one emulated network, each behind a filter that lets in only answers. The server is at
    the holder's, whose filter lets its ports through."""

    def __init__(self, binary, wan, flags):
        super().__init__(binary)
        self.ns = [self.tag + 'a', self.tag + 'b']
        self.wan = emulator(self, [wan, '--a', self.ns[0], '--b', self.ns[1], *flags])
        for ns, more in zip(self.ns, ('tcp dport 7443 accept; udp dport 7443 accept;', '')):
            nft(ns, 'table inet fw { chain i { type filter hook input priority 0; policy drop; iifname lo accept; '
                    f'meta l4proto icmpv6 accept; ct state established,related accept; {more} }}; }}')
        self.serve(self.ns[0], ('10.77.0.1', '[fd77::1]'))

    def down(self):
        super().down()
        end_emulator(self.wan)


class Plain(Stage):
    """Three namespaces, joined by veth pairs and a bridge without any emulator."""

    def __init__(self, binary, *more, data=None, dir=None):
        super().__init__(binary, dir)
        self.ns, self.middle = [self.tag + 'a', self.tag + 'b'], self.tag + 's'
        run('ip', 'netns', 'add', self.middle)
        run('ip', '-n', self.middle, 'link', 'add', 'br0', 'type', 'bridge')
        run('ip', '-n', self.middle, 'addr', 'add', '10.79.0.1/24', 'dev', 'br0')
        for index, ns in enumerate(self.ns):
            run('ip', 'netns', 'add', ns)
            run('ip', 'link', 'add', 'eth0', 'netns', ns, 'type', 'veth', 'peer', 'name', f'v{index}', 'netns', self.middle)
            run('ip', '-n', self.middle, 'link', 'set', f'v{index}', 'master', 'br0', 'up')
            run('ip', '-n', ns, 'addr', 'add', f'10.79.0.{index + 2}/24', 'dev', 'eth0')
            run('ip', '-n', ns, 'link', 'set', 'eth0', 'up')
            run('ip', '-n', ns, 'link', 'set', 'lo', 'up')
        run('ip', '-n', self.middle, 'link', 'set', 'br0', 'up')
        self.serve(self.middle, ['10.79.0.1'], *more, data=data)

    def no_udp_to_server(self):
        nft(self.middle, 'table inet no { chain i { type filter hook input priority 0; meta l4proto udp drop; }; }')

    def down(self):
        super().down()
        for ns in (*self.ns, self.middle):
            run('ip', 'netns', 'del', ns)


def emulator(stage, command):
    wan = subprocess.Popen([*command, '--ready', f'{stage.dir}/ready', '--force'], stdout=open(f'{stage.dir}/wan.out', 'w'),
                           stderr=subprocess.STDOUT)
    for _ in range(200):
        if os.path.exists(f'{stage.dir}/ready'):
            return wan
        if wan.poll() is not None:
            raise RuntimeError(open(f'{stage.dir}/wan.out').read())
        time.sleep(0.05)
    raise RuntimeError('the emulator does not come up')


def end_emulator(wan):
    wan.send_signal(signal.SIGTERM)
    wan.wait(20)


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def nft(ns, rules):
    add = rules if rules.startswith(('add', 'delete', 'flush')) else 'add ' + rules
    if add.startswith('add table') and '{' in add:
        add = add[len('add '):]
    done = subprocess.run(['ip', 'netns', 'exec', ns, 'nft', '-f', '-'], input=add + '\n', text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f'nft in {ns}: {done.stderr}')


def digest(path):
    with open(path, 'rb') as file:
        hashed = hashlib.blake2b()
        while piece := file.read(1 << 20):
            hashed.update(piece)
    return hashed.digest()
