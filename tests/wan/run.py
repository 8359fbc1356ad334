#!/usr/bin/env python3
"""How fast files travel between real processes over an emulated link, beside what is wanted; and a link that goes dark.

  run.py                  every row, medians of --runs (5)
  run.py --rows clean,lossy,worse,long,small,many,dark
  run.py --short          small files and one run each: shows that it works, and no figure is held against what is wanted

The server and the holder stand at one end, the asker at the other; they have spoken before, and the root is known. Time goes from
`getfile` to `transfer_done`. Over IPv4, whose header is 20 bytes shorter than that of IPv6; --both leaves both families there, and
IPv6 is chosen. Wants root, `ip`, `nft`, and the emulator: its path stands in SECCHAT_WAN. Where one of them is missing it says so and
passes.
"""
import argparse, os, shutil, signal, statistics, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f'{HERE}/../nat')
from lab import Stage, Trouble, digest, emulator, end_emulator, run

MIB = 1 << 20
# Of each row: the emulator's flags, bytes of a file, how many, and what is wanted: Mbit/s at least, or seconds at most.
ROWS = {
    'clean': ('50 ms, 200 Mbit/s', '--delay 25ms --rate 200mbit', 256 * MIB, 1, 183, None),
    'lossy': ('50 ms, 200 Mbit/s, 1 % lost', '--delay 25ms --rate 200mbit --loss 1%', 256 * MIB, 1, 172, None),
    'worse': ('100 ms, 100 Mbit/s, 5 % lost', '--delay 50ms --rate 100mbit --loss 5%', 256 * MIB, 1, 80, None),
    'long': ('200 ms, 50 Mbit/s, 0.1 % lost', '--delay 100ms --rate 50mbit --loss 0.1%', 256 * MIB, 1, 45, None),
    'small': ('50 ms, 200 Mbit/s, 1 MiB', '--delay 25ms --rate 200mbit', MIB, 1, None, 0.35),
    'many': ('50 ms, 200 Mbit/s, 1,000 files of 10 KiB', '--delay 25ms --rate 200mbit', 10 << 10, 1000, None, 1.0),
    # Its figure is that it comes whole.
    'dark': ('50 ms, 50 Mbit/s, dark for 30 s', '--delay 25ms --rate 50mbit', 64 * MIB, 1, None, 75),
}


class Link(Stage):
    """Two hosts at the ends of one link."""

    def __init__(self, args, flags):
        super().__init__(args.secchat)
        self.ns = [self.tag + 'a', self.tag + 'b']
        self.wan = emulator(self, [args.wan, '--a', self.ns[0], '--b', self.ns[1], '--queue', '50ms', *flags.split()])
        if not args.both:
            for ns in self.ns:
                run('ip', 'netns', 'exec', ns, 'sh', '-c', 'for each in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $each; done')
        self.serve(self.ns[0], ['10.77.0.1'])

    def down(self):
        super().down()
        end_emulator(self.wan)


def noise(path, size):
    with open(path, 'wb') as file:
        for at in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - at)))


def digests(path):
    if not os.path.isdir(path):
        return [digest(path)]
    return [digest(f'{path}/{name}') for name in sorted(os.listdir(path))]


def fetch(lab, number, size, count, dark):
    """Seconds of one transfer between two new clients, and the most memory of either, MiB."""
    share, (alice, bob) = f'{lab.dir}/share{number}', (f'alice{number}', f'bob{number}')
    what = f'{share}/noise'
    os.makedirs(what if count > 1 else share)
    for n in range(count):
        noise(f'{what}/{n:04}' if count > 1 else what, size)
    a = lab.client(0, alice, '--room', f'lab{number}', '--create', '--share', share)
    a.event(['room_created'])
    b = lab.client(1, bob, '--room', f'lab{number}', '--downloads', f'{lab.dir}/got{number}')
    b.event(['joined'])
    a.say('@me setglobalshare')
    a.event(['ok'], within=120)
    while count == 1:
        b.say('@all whohas noise')
        if b.event(['file_found', 'search_done'])[1].get('root'):
            break
        time.sleep(0.3)
    b.say(f'@{alice} hello')
    a.event(['direct'])
    # What the first contact brings with it has passed.
    time.sleep(0.3)
    for process in (a, b):
        open(f'/proc/{process.child.pid}/clear_refs', 'w').write('5')
    began = time.monotonic()
    b.say(f'@{alice} getfile noise' + ('/' if count > 1 else ''))
    if dark:
        b.event(['transfer_progress'], lambda event: event['bytes'] > size // 4, within=60)
        lab.wan.send_signal(signal.SIGSTOP)
        time.sleep(dark)
        lab.wan.send_signal(signal.SIGCONT)
    at, event = b.event(['transfer_done', 'transfer_failed', 'error'], within=600)
    if event['event'] != 'transfer_done' or digests(event['path']) != digests(what):
        raise Trouble(f'not whole: {event}')
    memory = max(process.memory()[1] for process in (a, b)) / 1024
    a.end(), b.end()
    shutil.rmtree(share), shutil.rmtree(f'{lab.dir}/got{number}')
    return at - began, memory


def row(args, name):
    what, flags, size, count, rate, limit = ROWS[name]
    if args.short:
        size = min(size, 8 * MIB)
    lab = Link(args, flags)
    try:
        dark = (3 if args.short else 30) if name == 'dark' else 0
        found = [fetch(lab, number, size, count, dark) for number in range(1 if dark else args.runs)]
    finally:
        lab.down()
    seconds, memory = statistics.median(found)[0], max(memory for _, memory in found)
    got = size * count * 8e-6 / seconds
    good = args.short or memory < 64 and (rate is None or got >= rate) and (limit is None or seconds <= limit)
    wanted = f'{rate} Mbit/s' if rate else f'{limit} s'
    print(f'{"ok" if good else "NOT":<4} {what:<42} {wanted:<11} {got:6.1f} Mbit/s  {seconds:7.3f} s  {memory:3.0f} MiB', flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--secchat', default=os.environ.get('SECCHAT_BINARY', f'{HERE}/../../target/release/secchat'))
    parser.add_argument('--wan', default=os.environ.get('SECCHAT_WAN', 'wan'))
    parser.add_argument('--rows', type=lambda text: text.split(','), default=list(ROWS))
    parser.add_argument('--runs', type=int)
    parser.add_argument('--short', action='store_true')
    parser.add_argument('--both', action='store_true')
    args = parser.parse_args()
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    args.wan = shutil.which(args.wan)
    if os.geteuid() != 0 or not shutil.which('ip') or not args.wan or not os.path.exists('/dev/net/tun'):
        print('skipped: it wants root, ip, /dev/net/tun, and the emulator, named by SECCHAT_WAN')
        return 0
    args.runs = args.runs or (1 if args.short else 5)
    print(f'{"":4} {"what":<42} {"wanted":<11} got (median of {args.runs}), seconds, memory of either end at most')
    return 0 if all([row(args, name) for name in args.rows]) else 1


if __name__ == '__main__':
    sys.exit(main())
