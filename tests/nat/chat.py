"""How long a line of chat takes from one person to another while a relay is full, and what of that is the relay's doing."""
import os, shutil, statistics, tempfile, threading, time
from lab import Plain, Trouble
from rows import kind_of


class Talk:
    """Two people who take no part in any transfer; one writes so often, the other's client says when it has come."""

    def __init__(self, stage, before):
        self.stage = stage
        self.carol = stage.client(0, 'carol', '--room', 'talk', '--create', before=before)
        self.carol.event(['room_created'])
        self.dave = stage.client(1, 'dave', '--room', 'talk', before=before)
        self.dave.event(['joined'])
        self.said = 0

    def measure(self, seconds, rate=20):
        """Milliseconds from the line's writing to its coming, of each."""
        took, next_at, until = [], time.monotonic(), time.monotonic() + seconds
        while next_at < until:
            time.sleep(max(0, next_at - time.monotonic()))
            self.said += 1
            text, began = f'line {self.said}', time.monotonic()
            self.carol.say(text)
            came, _ = self.dave.event(['message'], lambda event: event.get('text') == text, within=20)
            took.append((came - began) * 1000)
            # What comes late delays the next one: it is not as if it had not been said.
            next_at += 1 / rate
        return took


class Load:
    """The same file fetched again and again until it is enough; the rate of each time."""

    def __init__(self, stage, size, options, before):
        self.pair = stage.pair('load', [size], options, options, before)
        self.rates, self.routes, self.over, self.wrong = [], set(), False, None
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        a, b, alice, (path,) = self.pair
        try:
            while not self.over:
                b.say(f'@{alice} getfile {os.path.basename(path)}')
                _, done = b.event(['transfer_done', 'transfer_failed', 'error'], within=120)
                if done['event'] != 'transfer_done':
                    raise Trouble(str(done))
                _, theirs = a.event(['transfer_done', 'transfer_failed'], within=10)
                self.rates.append(done['rate'])
                self.routes.add(kind_of(done['route'], theirs.get('route') or ''))
                os.unlink(done['path'])
        except (Trouble, OSError, ValueError) as error:
            self.wrong = str(error)

    def end(self):
        self.over = True
        self.thread.join(120)
        self.pair[0].end(), self.pair[1].end()


class Probe:
    """What the disk itself takes for a few pages, as any program would see it at the same time."""

    def __init__(self, dir):
        self.path, self.took, self.over = f'{dir}/probe', [], False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)
        file = os.open(self.path, os.O_CREAT | os.O_RDWR)
        os.pwrite(file, bytes(1 << 20), 0)
        os.fsync(file)
        while not self.over:
            began = time.monotonic()
            os.pwrite(file, os.urandom(8192), len(self.took) * 8192 % (1 << 20))
            os.fsync(file)
            self.took.append((time.monotonic() - began) * 1000)
            time.sleep(0.05)
        os.close(file)

    def end(self):
        self.over = True
        self.thread.join(30)


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


# What is told apart: who passes the bytes on, how many, where the server writes, and who else wants the processors.
CASES = {
    'idle': dict(load=None),
    'direct': dict(load=[]),
    'UDP': dict(load=['--relay-only']),
    'TLS': dict(load=['--relay-only'], tls=True),
    'UDP, capped': dict(load=['--relay-only'], cap=True),
    'TLS, capped': dict(load=['--relay-only'], tls=True, cap=True),
    'UDP, ends nice': dict(load=['--relay-only'], nice=True),
    'idle, disk': dict(load=None, disk=True),
    'direct, disk': dict(load=[], disk=True),
    'UDP, disk': dict(load=['--relay-only'], disk=True),
    'TLS, disk': dict(load=['--relay-only'], tls=True, disk=True),
    'UDP, disk, capped': dict(load=['--relay-only'], disk=True, cap=True),
    'UDP, all on disk': dict(load=['--relay-only'], disk=True, files_on_disk=True),
}
# With the whole table.
USUAL = ['idle', 'UDP', 'TLS', 'idle, disk', 'UDP, disk', 'TLS, disk']


def one(args, name):
    case = CASES[name]
    elsewhere = args.disk_dir
    data = tempfile.mkdtemp(prefix='secchat-chat-', dir=elsewhere) if case.get('disk') else None
    more = ['--relay-rate', args.cap, '--relay-user-rate', args.cap] if case.get('cap') else ['--relay-user-rate', '100G', '--relay-rate', '100G']
    stage = Plain(args.secchat, *more, data=data and f'{data}/server', dir=elsewhere if case.get('files_on_disk') else None)
    try:
        if case.get('tls'):
            stage.no_udp_to_server()
        # The two who talk would be on machines of their own.
        talk = Talk(stage, ['nice', '-n', '-10'] if not args.equal else [])
        load = None
        if case['load'] is not None:
            load = Load(stage, args.size << 20, case['load'], ['nice', '-n', '19'] if case.get('nice') else [])
            time.sleep(2)
        probe = Probe(data) if data else None
        took = talk.measure(args.seconds)
        if probe:
            probe.end()
        if load:
            load.end()
            if load.wrong:
                raise Trouble(load.wrong)
        p50, p99, most = statistics.median(took), percentile(took, 0.99), max(took)
        told = f'p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {most:.1f} ms of {len(took)}'
        if load and load.rates:
            told += f'; {"/".join(load.routes)} at {statistics.median(load.rates) * 8 / 1e9:.2f} Gbit/s'
        if probe:
            told += f'; the disk itself: p50 {statistics.median(probe.took):.1f} ms, p99 {percentile(probe.took, 0.99):.1f} ms'
        relay = case['load'] == ['--relay-only']
        return dict(what=f'chat, {name}', wanted='p99 under 20 ms' if relay else 'told', got=told, good=p99 < 20 or args.short or not relay, p50=p50, p99=p99, max=most,
                    rate=statistics.median(load.rates) if load and load.rates else None)
    finally:
        stage.down()
        if data:
            shutil.rmtree(data, ignore_errors=True)


def chat(args):
    rows = []
    for name in args.chat_cases or (CASES if args.chat else USUAL[1:2] if args.short else USUAL):
        rows.append(one(args, name))
        args.tell(rows[-1])
    return rows
