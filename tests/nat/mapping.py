#!/usr/bin/env python3
"""Ports that routers open on demand, with miniupnpd in the routers of the WAN emulator.

  mapping.py [--secchat BINARY] [--tries 5] [--protocols pcp,upnp] [--pairs symmetric/cone,symmetric/symmetric]

For each protocol the holder's router, which opens no way by itself, runs miniupnpd. Wanted: without the mapping only a relay works, with
it files go directly; it is renewed before a short lease ends; it is gone after the client's end, and with its lease after a kill -9;
`secchat doctor network` tells of it; neither client asks with --no-port-mapping or --relay-only; a router that swallows every question
delays neither the file nor the end. NAT-PMP's turn comes only with routers that know no PCP, and miniupnpd does: a unit test has that.

Wants what run.py wants, and miniupnpd (Debian: miniupnpd-nftables). Where one is missing it says so and passes.
"""
import argparse, json, os, shutil, signal, subprocess, sys, time

import lab as nat

HERE = os.path.dirname(os.path.abspath(__file__))

# What the emulator calls public is reserved for benchmarks, and miniupnpd opens nothing at an address that is not really public. So
# the router says that it has this one, and the other routers know where that is.
ALIASES = ['11.0.0.10', '11.0.0.20']
RULES = """
table inet filter {
  chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
  chain postrouting_miniupnpd { }
}"""
CONFIG = """
ext_ifname=wan0
listening_ip=lan0
ext_ip={address}
enable_natpmp={pcp}
enable_upnp={upnp}
min_lifetime=4
max_lifetime={lease}
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 10.77.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class Router:
    """miniupnpd in the router before one of the two hosts."""

    def __init__(self, lab, index, protocol, lease=7200):
        self.ns, self.log = lab.ns[index] + '-nat', f'{lab.dir}/miniupnpd{index}.log'
        other = lab.ns[1 - index] + '-nat'
        subprocess.run(['ip', 'netns', 'exec', self.ns, 'nft', '-f', '-'], input=RULES, text=True, check=True)
        nat.run('ip', 'netns', 'exec', other, 'nft', 'add', 'rule', 'ip', 'wan', 'prerouting', 'ip', 'daddr', ALIASES[index],
                'dnat', 'to', lab.public[index])
        config = f'{lab.dir}/miniupnpd{index}.conf'
        with open(config, 'w') as file:
            file.write(CONFIG.format(address=ALIASES[index], lease=lease, pcp='yes' if protocol == 'pcp' else 'no',
                                     upnp='yes' if protocol == 'upnp' else 'no'))
        self.child = subprocess.Popen(['ip', 'netns', 'exec', self.ns, 'miniupnpd', '-d', '-f', config, '-P', f'{lab.dir}/miniupnpd{index}.pid'],
                                      stdout=open(self.log, 'w'), stderr=subprocess.STDOUT)
        time.sleep(1)
        if self.child.poll() is not None:
            raise RuntimeError(open(self.log).read()[-800:])

    def ports(self):
        """The outside ports that lead to somebody."""
        out = subprocess.run(['ip', 'netns', 'exec', self.ns, 'nft', '-j', 'list', 'chain', 'inet', 'filter', 'prerouting_miniupnpd'],
                             capture_output=True, text=True, check=True).stdout
        rules = [entry['rule'] for entry in json.loads(out)['nftables'] if 'rule' in entry]
        matches = [part['match'] for rule in rules for part in rule['expr'] if 'match' in part]
        return sorted(match['right'] for match in matches if match['left'].get('payload', {}).get('field') == 'dport')

    def wait(self, wanted, within):
        """Seconds until there are so many ports."""
        began = time.monotonic()
        while len(self.ports()) != wanted:
            if time.monotonic() > began + within:
                raise RuntimeError(f'{len(self.ports())} ports are open after {within} s, not {wanted}; {open(self.log).read()[-600:]}')
            time.sleep(0.05)
        return time.monotonic() - began

    def down(self):
        self.child.terminate()
        self.child.wait(5)


def fetch(b, alice, within):
    began = time.monotonic()
    b.say(f'@{alice} getfile noise0.bin')
    _, started = b.event(['transfer_started', 'transfer_failed', 'error'], within=within)
    if started['event'] != 'transfer_started':
        raise RuntimeError(started)
    ended, done = b.event(['transfer_done', 'transfer_failed', 'error'], within=within)
    if done['event'] != 'transfer_done':
        raise RuntimeError(done)
    return ended - began, started['route']


def end(process, how):
    began = time.monotonic()
    process.child.send_signal(how)
    process.child.wait(10)
    return time.monotonic() - began


def direct(args, protocol, holder, asker):
    """Relayed without a mapping; with one direct, each time; gone at the end."""
    lab = nat.Routers(args.secchat, args.wan, holder, asker, ['--delay', args.delay])
    router = None
    try:
        router = Router(lab, 0, protocol)
        a, b, alice, _ = lab.pair(0, [1000], ['--no-port-mapping'], ['--no-port-mapping'])
        seconds, route = fetch(b, alice, args.patience)
        a.end(), b.end()
        check('relay' in route and not router.ports(), f'without a mapping: {route} in {seconds:.2f} s, {router.ports()}')
        a, b, alice, _ = lab.pair(1, [1000], ['--relay-only'])
        fetch(b, alice, args.patience)
        check(not router.ports(), f'with --relay-only {router.ports()} are open')
        a.end(), b.end()
        times, opened, closed = [], [], []
        for number in range(2, 2 + args.tries):
            a, b, alice, path = lab.pair(number, [1000])
            opened.append(router.wait(2, 5))
            seconds, route = fetch(b, alice, args.patience)
            check(route.startswith(ALIASES[0] + ':') and 'relay' not in route, f'with a mapping: {route}')
            times.append(seconds)
            closed.append(end(a, signal.SIGTERM))
            b.end()
            check(not router.ports(), f'after the end {router.ports()} are open')
        return (f'direct {len(times)} of {args.tries}, first byte {max(times):.2f} s at worst, opened {max(opened):.2f} s after the share, '
                f'ended and closed in {max(closed):.2f} s')
    finally:
        if router:
            router.down()
        lab.down()


def lease(args, protocol):
    """A short lease, renewed; and what is left of it after a kill -9."""
    lab = nat.Routers(args.secchat, args.wan, 'symmetric', 'cone', ['--delay', args.delay])
    router = None
    try:
        router = Router(lab, 0, protocol, lease=8)
        a, b, alice, _ = lab.pair(0, [1000])
        router.wait(2, 5)
        before, until = router.ports(), time.monotonic() + 20
        while time.monotonic() < until:
            # While miniupnpd renews a rule it is gone for a moment.
            check(before in (router.ports(), router.ports(), router.ports()), f'{before} became {router.ports()}')
            time.sleep(0.2)
        _, route = fetch(b, alice, args.patience)
        check(route.startswith(ALIASES[0]), route)
        end(a, signal.SIGKILL)
        check(router.ports() == before, 'closed by a kill?')
        return f'open for 20 s on leases of 8 s; {router.wait(0, 20):.0f} s after a kill -9 closed by itself'
    finally:
        if router:
            router.down()
        lab.down()


def silent(args, protocol):
    """The router takes every question and answers none."""
    lab = nat.Routers(args.secchat, args.wan, 'cone', 'cone', ['--delay', args.delay])
    try:
        nat.run('ip', 'netns', 'exec', lab.ns[0] + '-nat', 'nft', 'add', 'rule', 'ip', 'wan', 'input', 'iifname', 'lan0', 'udp', 'dport',
                '{1900,5351}', 'drop')
        a, b, alice, _ = lab.pair(0, [1000])
        seconds, route = fetch(b, alice, args.patience)
        ended = end(a, signal.SIGTERM)
        check(seconds < 1.5 and ended < 1.5, f'{seconds:.2f} s, ended in {ended:.2f} s')
        return f'first byte after {seconds:.2f} s, ended in {ended:.2f} s'
    finally:
        lab.down()


def doctor(args, protocol):
    lab = nat.Routers(args.secchat, args.wan, 'symmetric', 'cone', ['--delay', args.delay])
    router = None
    try:
        router = Router(lab, 0, protocol)
        command = ['ip', 'netns', 'exec', lab.ns[0], args.secchat, 'doctor', 'network', '--server', f'{nat.SERVER},{nat.OTHER}']
        out = subprocess.run([*command, '--json'], capture_output=True, text=True, timeout=30).stdout
        said = json.loads(out).get('port_mapping', {})
        check(said.get('protocol') == protocol and said['external'].startswith(ALIASES[0]), out)
        check(not router.ports(), 'the doctor left a port open')
        return f'the doctor says {said["protocol"]}, {said["external"]}'
    finally:
        if router:
            router.down()
        lab.down()


def check(good, why):
    if not good:
        raise RuntimeError(why)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--secchat', default=os.environ.get('SECCHAT_BINARY', f'{HERE}/../../target/release/secchat'))
    parser.add_argument('--wan', default=os.environ.get('SECCHAT_WAN', 'wan'))
    parser.add_argument('--tries', type=int, default=5)
    parser.add_argument('--protocols', default='pcp,upnp')
    parser.add_argument('--pairs', default='symmetric/cone,symmetric/symmetric')
    parser.add_argument('--delay', default='25ms', help='one way')
    parser.add_argument('--patience', type=float, default=30, help='seconds for each try')
    parser.add_argument('--only', choices=['direct', 'lease', 'silent', 'doctor'])
    args = parser.parse_args()
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    if os.geteuid() != 0 or not all(map(shutil.which, ('ip', 'nft', 'miniupnpd'))):
        print('skipped: routers that open ports need root, ip, nft and miniupnpd')
        return 0
    args.wan = shutil.which(args.wan)
    if not args.wan or not os.path.exists('/dev/net/tun'):
        print('skipped: SECCHAT_WAN does not name the emulator, or there is no /dev/net/tun')
        return 0
    cases = [('silent', silent, ('none',))]
    for protocol in args.protocols.split(','):
        cases += [('direct', direct, (protocol, *pair.split('/'))) for pair in args.pairs.split(',')]
        # What lasts how long is the client's to say by UPnP, and ten minutes.
        cases += [('lease', lease, (protocol,))] if protocol == 'pcp' else []
        cases += [('doctor', doctor, (protocol,))]
    wrong = 0
    for name, case, words in cases:
        if args.only not in (None, name):
            continue
        try:
            print(f'{name} {" ".join(words)}: {case(args, *words)}  ok', flush=True)
        except (RuntimeError, subprocess.SubprocessError) as error:
            print(f'{name} {" ".join(words)}: NOT AS WANTED: {str(error)[:1500]}', flush=True)
            wrong += 1
    return 1 if wrong else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
