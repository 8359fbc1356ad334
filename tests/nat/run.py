#!/usr/bin/env python3
"""Files between two people behind routers of each kind, in the WAN emulator (`wan nat`).

  run.py [--secchat BINARY] [--tries 20] [--pairs cone/cone,symmetric/none] [--delay 25ms] [--json FILE]
  run.py --trouble moved|slept|moved-asker|both-moved [--pairs ...]   what happens in the middle of a transfer
  run.py --trouble opens|closes [--pairs ...]              a direct way that opens later; one that closes and opens again
  run.py --forwarded [--pairs symmetric/symmetric]         the holder's router forwards two ports, named with --candidate
  run.py --doctor                                          what `secchat doctor network` says behind each kind

Wants root, `ip`, `nft`, and the emulator: its path stands in SECCHAT_WAN. Where one of them is missing it says so and passes.
In a pair the holder of the file comes first. `none` is a host with a public address and no router. Each try has two new clients, so
new ports and new mappings; the file is one datagram long, so the time to its end is that to its first byte.
"""
import argparse, hashlib, itertools, json, os, queue, shutil, signal, statistics, subprocess, sys, tempfile, threading, time

KINDS = ['none', 'full-cone', 'cone', 'symmetric']
# What no two hosts can do without help: a symmetric router with one that lets in only whom its host has sent to.
HOPELESS = {frozenset(['symmetric']), frozenset(['symmetric', 'cone'])}
HERE = os.path.dirname(os.path.abspath(__file__))
# Two addresses of one host: what a router does may depend on whom it speaks to.
SERVER, OTHER = '198.18.0.1', '198.18.0.2'


class Process:
    """A secchat process in a namespace; its output is read as it comes, with the time."""

    def __init__(self, lab, who, ns, args):
        self.who, self.lines, self.said = who, queue.Queue(), []
        self.errors = f'{lab.dir}/{who}.err'
        command = ['ip', 'netns', 'exec', ns, lab.binary, *args]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=open(self.errors, 'a'), text=True, bufsize=1)
        lab.processes.append(self)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
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
                raise RuntimeError(f'{self.who}: none of {kinds} within {within} s; last: {self.said[-3:]}')
            if line is None:
                raise RuntimeError(f'{self.who} ended; {open(self.errors).read()[-400:]} {self.said[-3:]}')
            self.said.append(line.strip())
            if 'invite' in kinds and 'secchat://' in line:
                return at, next(word for word in line.split() if word.startswith('secchat://'))
            if line.startswith('{'):
                event = json.loads(line)
                if event.get('event') in kinds and wanted(event):
                    return at, event

    def end(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()


class Lab:
    """One emulator with two routers of given kinds, and a server at the public host."""

    def __init__(self, binary, wan, holder, asker, flags):
        self.binary, self.processes = binary, []
        self.dir = tempfile.mkdtemp(prefix='secchat-nat-', dir='/dev/shm' if os.path.isdir('/dev/shm') else None)
        tag = f'n{os.getpid()}'
        names = {'a': tag + 'a', 'b': tag + 'b', 'pub': tag + 'p'}
        self.ns, self.public = [names['a'], names['b']], ['198.18.0.10', '198.18.0.20']
        types = ['full-cone' if kind == 'none' else kind for kind in (holder, asker)]
        command = [wan, 'nat', '--a', names['a'], '--b', names['b'], '--pub', names['pub'], '--type-a', types[0],
                   '--type-b', types[1], '--ready', f'{self.dir}/ready', *flags]
        self.wan = subprocess.Popen(command, stdout=open(f'{self.dir}/wan.out', 'w'), stderr=subprocess.STDOUT)
        for _ in range(200):
            if os.path.exists(f'{self.dir}/ready'):
                break
            if self.wan.poll() is not None:
                raise RuntimeError(open(f'{self.dir}/wan.out').read())
            time.sleep(0.05)
        for index, kind in enumerate((holder, asker)):
            if kind == 'none':
                # At home on the router itself, which then neither filters nor translates.
                self.ns[index] += '-nat'
                for chain in ('prerouting', 'postrouting', 'input'):
                    run('ip', 'netns', 'exec', self.ns[index], 'nft', 'flush', 'chain', 'ip', 'wan', chain)
        listen = [word for address in (SERVER, OTHER) for word in ('--listen', f'{address}:7443')]
        server = Process(self, 'server', names['pub'], ['server', *listen, '--name', 's1', '--data', f'{self.dir}/server'])
        self.invite = server.event(['invite'])[1]

    def client(self, index, who, *more):
        return Process(self, who, self.ns[index], ['client', '--json', '--invite', self.invite, '--name', who,
                                                   '--data', f'{self.dir}/{who}', *more])

    def forward(self, index):
        """The router leads ports 7500 and 7501 to its host, which is told so."""
        rule = f'udp dport 7500-7501 dnat to 10.77.{index + 1}.2'
        run('ip', 'netns', 'exec', self.ns[index] + '-nat', 'nft', 'add', 'rule', 'ip', 'wan', 'prerouting', 'iifname', 'wan0', *rule.split())
        return ['--udp', '0.0.0.0:7500', '--candidate', f'{self.public[index]}:7500']

    def pair(self, number, size, holder=(), asker=()):
        """A holder that shares a file of `size` bytes, and an asker who has spoken with it."""
        share, names = f'{self.dir}/share{number}', (f'alice{number}', f'bob{number}')
        os.makedirs(share)
        with open(f'{share}/noise.bin', 'wb') as file:
            file.write(os.urandom(size))
        a = self.client(0, names[0], '--room', f'lab{number}', '--create', '--share', share, *holder)
        a.event(['room_created'])
        b = self.client(1, names[1], '--room', f'lab{number}', '--downloads', f'{self.dir}/got{number}', *asker)
        b.event(['joined'])
        a.say('@me setglobalshare')
        a.event(['ok'])
        b.say(f'@{names[0]} hello')
        a.event(['direct'])
        return a, b, names[0], f'{share}/noise.bin'

    def down(self):
        for process in self.processes:
            process.end()
        self.wan.send_signal(signal.SIGTERM)
        self.wan.wait(20)
        shutil.rmtree(self.dir, ignore_errors=True)


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'blake2b').digest() if hasattr(hashlib, 'file_digest') else hashlib.blake2b(file.read()).digest()


def one_try(lab, number, args, forwarded):
    """Seconds to the first byte, and the route; raises where there is none."""
    a, b, alice, path = lab.pair(number, 1000, [*args.holder, *forwarded], args.asker)
    try:
        began = time.monotonic()
        b.say(f'@{alice} getfile noise.bin')
        _, started = b.event(['transfer_started', 'transfer_failed', 'error'], within=args.patience)
        if started['event'] != 'transfer_started':
            raise RuntimeError(started.get('reason') or started.get('code') or started)
        ended, done = b.event(['transfer_done', 'transfer_failed', 'error'], within=args.patience)
        if done['event'] != 'transfer_done' or digest(done['path']) != digest(path):
            raise RuntimeError(done)
        return ended - began, done.get('route') or started.get('route') or '?'
    finally:
        a.end(), b.end()


def table(args):
    wrong, rows = 0, []
    for holder, asker in args.pairs:
        lab = Lab(args.secchat, args.wan, holder, asker, ['--delay', args.delay, '--force'])
        times, routes, failures = [], {}, []
        forwarded = lab.forward(0) if args.forwarded else []
        try:
            for number in range(args.tries):
                try:
                    seconds, route = one_try(lab, number, args, forwarded)
                    times.append(seconds)
                    kind = 'relayed' if 'relay' in route else 'direct'
                    routes[kind] = routes.get(kind, 0) + 1
                except RuntimeError as error:
                    failures.append(str(error)[:2000])
        finally:
            lab.down()
        hopeless = frozenset([holder, asker]) in HOPELESS and not args.forwarded
        limit = 4.0 if hopeless else 1.5
        good = len(times) == args.tries and max(times) <= limit and (hopeless or routes.get('direct') == args.tries)
        wrong += not (good or (hopeless and args.no_relay))
        row = dict(holder=holder, asker=asker, tries=args.tries, arrived=len(times), routes=routes, good=good,
                   median=round(statistics.median(times), 3) if times else None,
                   worst=round(max(times), 3) if times else None, failures=failures[:3])
        rows.append(row)
        print(f"{holder:>10} -> {asker:<10} {row['arrived']:>3} of {args.tries:<3} {str(routes):<28} first byte: median {row['median']} s, "
              f"worst {row['worst']} s  {'ok' if good else 'NOT AS WANTED'} {failures[0][:300] if failures else ''}", flush=True)
    if args.json:
        json.dump(rows, open(args.json, 'w'), indent=1)
    return wrong


def move(lab, index):
    """The host gets another address in its network, and so another port at its router."""
    host = lab.ns[index]
    net = f'10.77.{index + 1}'
    run('ip', '-n', host, 'addr', 'del', f'{net}.2/24', 'dev', 'eth0')
    run('ip', '-n', host, 'addr', 'add', f'{net}.3/24', 'dev', 'eth0')
    run('ip', '-n', host, 'route', 'replace', 'default', 'via', f'{net}.1')


def block(lab, closed):
    """Whether the two hosts' datagrams reach nobody but the server."""
    for host in lab.ns:
        if not closed:
            run('ip', 'netns', 'exec', host, 'nft', 'delete', 'table', 'inet', 'blocked')
            continue
        run('ip', 'netns', 'exec', host, 'nft', 'add table inet blocked; '
            'add chain inet blocked out { type filter hook output priority 0; }; '
            f'add rule inet blocked out ip daddr != {{ {SERVER}, {OTHER} }} meta l4proto udp drop')


def changes(args):
    """The way changes in the middle: to a relay, and to the direct way once there is one."""
    wrong = 0
    for holder, asker in args.pairs:
        lab = Lab(args.secchat, args.wan, holder, asker, ['--delay', args.delay, '--rate', '20mbit', '--force'])
        try:
            if args.trouble == 'opens':
                block(lab, True)
            a, b, alice, path = lab.pair(0, 60_000_000, args.holder, args.asker)
            b.say(f'@{alice} getfile noise.bin')
            _, started = b.event(['transfer_started'], within=args.patience)
            told = [started['route']]
            b.event(['transfer_progress'], lambda event: event.get('bytes', 0) > 2_000_000)
            began = time.monotonic()
            if args.trouble == 'closes':
                block(lab, True)
                over, event = b.event(['transfer_path'], lambda event: 'relayed' in event['route'], within=args.patience)
                told.append(f"{event['route']} after {over - began:.1f} s")
                began = time.monotonic()
            block(lab, False)
            back, event = b.event(['transfer_path'], lambda event: 'relayed' not in event['route'], within=args.patience)
            told.append(f"{event['route']} after {back - began:.1f} s")
            _, done = b.event(['transfer_done', 'transfer_failed'], within=args.patience * 2)
            sessions = sum('"source_added"' in line for line in b.said) + 1
            good = done['event'] == 'transfer_done' and digest(done['path']) == digest(path)
            print(f'{holder:>10} -> {asker:<10} {args.trouble}: {"whole" if good else done}; {", ".join(told)}; {sessions} session(s), {done.get("seconds", 0):.1f} s', flush=True)
        except RuntimeError as error:
            good = False
            print(f'{holder:>10} -> {asker:<10} {args.trouble}: {str(error)[:900]}', flush=True)
        finally:
            lab.down()
        wrong += not good
    return wrong


def trouble(args):
    """A transfer of some seconds, in the middle of which an address changes, or all mappings end."""
    wrong = 0
    for holder, asker in args.pairs:
        lab = Lab(args.secchat, args.wan, holder, asker,
                  ['--delay', args.delay, '--rate', '20mbit', '--nat-timeout', '10s' if args.trouble == 'slept' else '30s', '--force'])
        try:
            a, b, alice, path = lab.pair(0, 25_000_000, args.holder, args.asker)
            b.say(f'@{alice} getfile noise.bin')
            b.event(['transfer_progress'], lambda event: event.get('bytes', 0) > 2_000_000)
            began = time.monotonic()
            if args.trouble == 'slept':
                for process in (a, b):
                    os.kill(process.child.pid, signal.SIGSTOP)
                time.sleep(14)
                for process in (a, b):
                    os.kill(process.child.pid, signal.SIGCONT)
            else:
                for index in {'moved': [0], 'moved-asker': [1], 'both-moved': [0, 1]}[args.trouble]:
                    move(lab, index)
            again, _ = b.event(['transfer_progress'], lambda event: event.get('bytes', 0) > 6_000_000, within=args.patience)
            ended, done = b.event(['transfer_done', 'transfer_failed', 'error'], lambda event: event['event'] != 'error' or 'noise' in str(event), within=args.patience)
            good = done['event'] == 'transfer_done' and digest(done['path']) == digest(path)
            print(f'{holder:>10} -> {asker:<10} {args.trouble}: {"whole" if good else done}; on after {again - began:.1f} s, over after {ended - began:.1f} s', flush=True)
        except RuntimeError as error:
            good = False
            print(f'{holder:>10} -> {asker:<10} {args.trouble}: {str(error)[:900]}', flush=True)
        finally:
            lab.down()
        wrong += not good
    return wrong


def doctor(args):
    """What the doctor says, and pystun3 where it is installed: a client that is none of ours."""
    wrong = 0
    for kind, wanted in (('none', 'open'), ('full-cone', 'same_port'), ('cone', 'same_port'), ('symmetric', 'port_for_each')):
        lab = Lab(args.secchat, args.wan, kind, 'none', ['--delay', args.delay, '--force'])
        try:
            inside = ['ip', 'netns', 'exec', lab.ns[0]]
            out = subprocess.run([*inside, args.secchat, 'doctor', 'network', '--server', f'{SERVER},{OTHER}', '--json'],
                                 capture_output=True, text=True, timeout=30).stdout
            said = json.loads(out)['kind']
            foreign = ('import stun, socket\nstun._initialize()\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(3)\n'
                       's.bind(("0.0.0.0", 40123))\n'
                       f'r = stun.stun_test(s, "{SERVER}", 7443, "0.0.0.0", 40123)\nprint(r["Resp"], r["ExternalIP"], r["ExternalPort"])')
            other = subprocess.run([*inside, sys.executable, '-c', foreign], capture_output=True, text=True, timeout=60)
            public = lab.public[0]
            missing = 'No module named' in other.stderr
            good = said == wanted and (missing or other.stdout.startswith(f'True {public} '))
            told = 'is not installed' if missing else other.stdout.strip() or other.stderr[-300:]
            print(f'{kind:>10}: doctor says {said}; pystun3 {told}  {"ok" if good else "NOT AS WANTED"}', flush=True)
            wrong += not good
        finally:
            lab.down()
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--secchat', default=os.environ.get('SECCHAT_BINARY', f'{HERE}/../../target/release/secchat'))
    parser.add_argument('--wan', default=os.environ.get('SECCHAT_WAN', 'wan'))
    parser.add_argument('--tries', type=int, default=20)
    parser.add_argument('--pairs', help='HOLDER/ASKER with commas between; all sixteen by default')
    parser.add_argument('--delay', default='25ms', help='one way')
    parser.add_argument('--patience', type=float, default=30, help='seconds for each try')
    parser.add_argument('--trouble', choices=['moved', 'moved-asker', 'both-moved', 'slept', 'opens', 'closes'])
    parser.add_argument('--forwarded', action='store_true')
    parser.add_argument('--doctor', action='store_true')
    parser.add_argument('--holder', type=str.split, default=[], help='more options of the holder')
    parser.add_argument('--asker', type=str.split, default=[], help='more options of the asker')
    parser.add_argument('--no-relay', action='store_true', help='pairs that need a relay may fail')
    parser.add_argument('--json', help='the table, for a program')
    args = parser.parse_args()
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    if os.geteuid() != 0 or not shutil.which('ip') or not shutil.which('nft'):
        print('skipped: routers need root, ip and nft')
        return 0
    args.wan = shutil.which(args.wan)
    if not args.wan or not os.path.exists('/dev/net/tun'):
        print('skipped: SECCHAT_WAN does not name the emulator, or there is no /dev/net/tun')
        return 0
    pairs = args.pairs.split(',') if args.pairs else [f'{a}/{b}' for a, b in itertools.product(KINDS, KINDS)]
    args.pairs = [tuple(pair.split('/')) for pair in pairs]
    what = doctor if args.doctor else changes if args.trouble in ('opens', 'closes') else trouble if args.trouble else table
    return 1 if what(args) else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
