"""The rows of the table of run.py: each gives what was wanted and what came."""
import json, os, signal, statistics, subprocess, sys, time
from lab import BLOCKED, SERVER, OTHER, Firewalls, Plain, Routers, Trouble, digest, nft

# What no two hosts can do without help: a symmetric router with one that lets in only whom its host has sent to.
HOPELESS = {frozenset(['symmetric']), frozenset(['symmetric', 'cone'])}
DIRECT, RELAYED, TLS = 'direct', 'relayed', 'relayed over TLS'


def kind_of(*routes):
    """Of both sides' routes: each knows only its own end of a relay."""
    if any('over TLS' in route for route in routes):
        return TLS
    return RELAYED if any('relay' in route for route in routes) else DIRECT


def fetch(a, b, alice, path, patience):
    """Asks for a file; gives seconds to its end, the route, the last event."""
    began = time.monotonic()
    b.say(f'@{alice} getfile {os.path.basename(path)}')
    ended, route, done = finish(a, b, path, patience)
    return ended - began, route, done


def finish(a, b, path, patience):
    name = os.path.basename(path)
    ours = lambda event: name in str(event) or event['event'] == 'error'
    ended, done = b.event(['transfer_done', 'transfer_failed', 'error'], ours, within=patience)
    if done['event'] != 'transfer_done':
        raise Trouble(done.get('reason') or done.get('code') or done)
    if digest(done['path']) != digest(path):
        raise Trouble(f'other bytes than those shared: {done}')
    _, theirs = a.event(['transfer_done', 'transfer_failed'], ours, within=10)
    return ended, kind_of(*(done.get('route') or '' for done in (done, theirs)), *told(a, name), *told(b, name)), done


def told(process, name):
    """The routes that it told of a file so far."""
    started = [line for line in process.said if '"transfer_started"' in line and name in line]
    return [json.loads(line).get('route') or '' for line in started[-1:]]


def tries(args, holder, asker):
    """New clients for each try, so new ports and new mappings; the file is one datagram long, so its end is its first byte."""
    blocked = BLOCKED in (holder, asker)
    hopeless = frozenset([holder, asker]) in HOPELESS and not args.forwarded
    limit = args.limit or (8.0 if blocked else 4.0 if hopeless else 1.5)
    lab = Routers(args.secchat, args.wan, holder, asker, ['--delay', args.delay])
    times, routes, failures = [], {}, []
    try:
        forwarded = lab.forward(0) if args.forwarded else []
        for number in range(args.tries):
            try:
                a, b, alice, (path,) = lab.pair(number, [1000], [*args.holder, *forwarded], args.asker)
                try:
                    seconds, route, _ = fetch(a, b, alice, path, args.patience)
                finally:
                    a.end(), b.end()
                if blocked and route != TLS:
                    failures.append(f'{route}? {a.said[-3:]} {b.said[-3:]}')
                times.append(seconds)
                routes[route] = routes.get(route, 0) + 1
            except Trouble as error:
                failures.append(str(error)[:2000])
    finally:
        lab.down()
    right = routes.get(TLS if blocked else DIRECT) == args.tries or hopeless
    good = len(times) == args.tries and max(times) <= limit and right
    wanted = f'{TLS if blocked else RELAYED + " or better" if hopeless else DIRECT}, {args.tries} of {args.tries}, first byte in {limit:g} s'
    told = ', '.join(f'{count} {route}' for route, count in sorted(routes.items())) or 'none'
    if times:
        told += f'; first byte: median {statistics.median(times):.2f} s, worst {max(times):.2f} s'
    return dict(what=f'{holder} <- {asker}', wanted=wanted, got=told, good=good or (hopeless and args.no_relay), times=times, routes=routes,
                failures=failures[:3])


# Routers that lead to each way, and the options of both sides.
WAYS = {DIRECT: ('cone', 'cone'), RELAYED: ('symmetric', 'symmetric'), TLS: (BLOCKED, BLOCKED)}
TROUBLES = {'moved': "the holder's address changes", 'moved-asker': "the asker's address changes", 'both-moved': 'both addresses change',
            'slept': 'both sleep until their mappings are gone', 'cut': "the holder's link to the server is cut for 3 s",
            'cut-asker': "the asker's link to the server is cut for 3 s"}


def trouble(args, what, holder, asker):
    """A transfer of some seconds, in the middle of which something happens."""
    flags = ['--delay', args.delay, '--rate', '20mbit', '--nat-timeout', '10s' if what == 'slept' else '30s']
    lab = Routers(args.secchat, args.wan, holder, asker, flags)
    row = dict(what=f'{holder} <- {asker}: {TROUBLES[what]}', wanted='whole', good=False)
    try:
        a, b, alice, (path,) = lab.pair(0, [25_000_000], args.holder, args.asker)
        b.say(f'@{alice} getfile noise0.bin')
        _, started = b.event(['transfer_started'], within=args.patience)
        b.event(['transfer_progress'], lambda event: event.get('bytes', 0) > 2_000_000, within=args.patience)
        began = time.monotonic()
        if what == 'slept':
            for process in (a, b):
                os.kill(process.child.pid, signal.SIGSTOP)
            time.sleep(14)
            for process in (a, b):
                os.kill(process.child.pid, signal.SIGCONT)
        elif what.startswith('cut'):
            lab.cut(1 if what == 'cut-asker' else 0, 3)
        else:
            for index in {'moved': [0], 'moved-asker': [1], 'both-moved': [0, 1]}[what]:
                lab.move(index)
        acted = time.monotonic() - began
        seen = max([json.loads(line).get('bytes', 0) for line in list(b.said) if '"transfer_progress"' in line])
        again, _ = b.event(['transfer_progress', 'transfer_failed'], lambda e: e['event'] == 'transfer_failed' or e.get('bytes', 0) > 6_000_000, within=args.patience)
        ended, route, _ = finish(a, b, path, args.patience)
        row.update(good=True, got=f'whole; {kind_of(started.get("route") or "")}, then {route}; past 6 MB {again - began:.1f} s after it began, '
                                  f'over after {ended - began:.1f} s', seconds=ended - began, acted=acted, seen=seen)
    except Trouble as error:
        row['got'] = str(error)[:900]
    finally:
        lab.down()
    return row


CHANGES = {'opens': 'a direct way opens', 'closes': 'the direct way closes, and opens again'}


def changes(args, what, holder, asker):
    """The way changes in the middle: to a relay, and to the direct way once there is one."""
    lab = Routers(args.secchat, args.wan, holder, asker, ['--delay', args.delay, '--rate', '20mbit'])
    row = dict(what=f'{holder} <- {asker}: {CHANGES[what]}', wanted='whole, relayed and direct in turn, in one session', good=False)
    try:
        if what == 'opens':
            lab.close_direct(True)
        a, b, alice, (path,) = lab.pair(0, [60_000_000], args.holder, args.asker)
        b.say(f'@{alice} getfile noise0.bin')
        _, started = b.event(['transfer_started'], within=args.patience)
        told = [kind_of(started['route'])]
        b.event(['transfer_progress'], lambda event: event.get('bytes', 0) > 2_000_000, within=args.patience)
        steps = [(True, RELAYED), (False, DIRECT)] if what == 'closes' else [(False, DIRECT)]
        for closed, wanted in steps:
            began = time.monotonic()
            lab.close_direct(closed)
            over, _ = b.event(['transfer_path'], lambda event: kind_of(event['route']) == wanted, within=args.patience)
            told.append(f'{wanted} after {over - began:.1f} s')
        finish(a, b, path, args.patience * 2)
        sessions = sum('"source_added"' in line for line in b.said) + 1
        row.update(good=sessions == 1, got=f'whole; {", ".join(told)}; {sessions} session(s)')
    except Trouble as error:
        row['got'] = str(error)[:900]
    finally:
        lab.down()
    return row


def rates(stage, args, label, sizes, holder=(), asker=()):
    """Bytes a second of one file after the other between the same two, and the routes."""
    a, b, alice, paths = stage.pair(label, sizes, holder, asker)
    try:
        found, routes = [], set()
        for path in paths:
            _, route, done = fetch(a, b, alice, path, args.patience + 60)
            found.append(done['rate'])
            routes.add(route)
            os.unlink(done['path'])
        return statistics.median(found), '/'.join(sorted(routes)), found
    finally:
        a.end(), b.end()
        for path in paths:
            os.unlink(path)


def relay_rate(args):
    """The relay against the direct path where nothing but this machine is in the way."""
    only, size = ['--relay-only'], args.size << 20
    rows, memory = [], {}
    # Limits would be a measurement of themselves.
    free = ['--relay-user-rate', '100G', '--relay-rate', '100G']
    stage = Plain(args.secchat, *free)
    try:
        direct, way, _ = rates(stage, args, 'd', [size] * args.runs)
        assert way == DIRECT, way
        memory['before'] = stage.server.memory()
        a, b, alice, paths = stage.pair('r', [size] * args.runs, only, only)
        found, routes = [], set()
        for n, path in enumerate(paths):
            b.say(f'@{alice} getfile {os.path.basename(path)}')
            b.event(['transfer_progress'], lambda event: event.get('bytes', 0) > size / 2, within=args.patience)
            memory[f'run {n + 1}'] = stage.server.memory()
            _, route, done = finish(a, b, path, args.patience + 60)
            found.append(done['rate'])
            routes.add(route)
            os.unlink(done['path'])
        memory['after'] = stage.server.memory()
        a.end(), b.end()
        udp = statistics.median(found)
        stage.no_udp_to_server()
        tls, tls_way, _ = rates(stage, args, 't', [size] * args.runs, only, only)
        memory['after TLS'] = stage.server.memory()
    finally:
        stage.down()
    mbit = lambda rate: f'{rate * 8 / 1e9:.2f} Gbit/s'
    peak = max(high for _, high in memory.values())
    fast = routes == {RELAYED} and (args.short or udp >= direct / 5)
    rows.append(dict(what=f'relay on plain veth, UDP leg, {args.size} MiB', wanted='at least a fifth of direct', good=fast,
                     got=f'{mbit(udp)} of {mbit(direct)} direct, {udp / direct:.0%}; {"/".join(routes)}', direct=direct, relayed=udp))
    rows.append(dict(what="the server's memory meanwhile (RSS, peak), MiB", wanted='flat', memory=memory,
                     good=peak - memory['before'][0] < 32 << 10,
                     got=', '.join(f'{when} {rss / 1024:.0f}/{high / 1024:.0f}' for when, (rss, high) in memory.items())))
    rows.append(dict(what='relay on plain veth, TLS leg', wanted='told', good=tls_way == TLS, relayed=tls,
                     got=f'{mbit(tls)}, {tls / direct:.0%} of direct; {tls_way}'))
    return rows


def rate_through_routers(args):
    """The same link with and without routers that translate."""
    found, size = {}, 16 if args.short else 64
    for kind in ('none', 'cone'):
        lab = Routers(args.secchat, args.wan, kind, kind, ['--delay', args.delay, '--rate', '200mbit'])
        try:
            found[kind] = rates(lab, args, 'f', [size << 20] * args.runs)
        finally:
            lab.down()
    bare, through = found['none'][0], found['cone'][0]
    good = (args.short or through >= 0.95 * bare) and found['cone'][1] == DIRECT
    return [dict(what=f'cone <- cone at 200 Mbit/s, 50 ms, {size} MiB', wanted='as fast as without routers', good=good, bare=bare, through=through,
                 got=f'{through * 8 / 1e6:.0f} Mbit/s, without routers {bare * 8 / 1e6:.0f}; {found["cone"][1]}')]


def ipv6(args):
    """Both families, behind filters that let in only answers."""
    lab = Firewalls(args.secchat, args.wan, ['--delay', args.delay])
    times, routes, failures = [], [], []
    try:
        for number in range(args.tries):
            try:
                a, b, alice, (path,) = lab.pair(number, [1000])
                try:
                    seconds, _, done = fetch(a, b, alice, path, args.patience)
                finally:
                    a.end(), b.end()
                times.append(seconds)
                routes.append(done['route'])
            except Trouble as error:
                failures.append(str(error)[:2000])
    finally:
        lab.down()
    six = sum(route.startswith('[fd77') for route in routes)
    good = len(times) == args.tries and (args.short or six == args.tries) and max(times) <= (args.limit or 1.5)
    times = times or [float('nan')]
    return [dict(what='both families, filters that let in only answers', wanted=f'direct over IPv6, {args.tries} of {args.tries}', good=good,
                 got=f'{six} over IPv6, {len(routes) - six} else; first byte: median {statistics.median(times):.2f} s, worst {max(times):.2f} s',
                 failures=failures[:3])]


def doctor(args):
    """What the doctor says, and pystun3 where it is installed: a client that is none of ours."""
    rows = []
    for kind, wanted in (('none', 'open'), ('full-cone', 'same_port'), ('cone', 'same_port'), ('symmetric', 'port_for_each')):
        lab = Routers(args.secchat, args.wan, kind, 'none', ['--delay', args.delay])
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
            rows.append(dict(what=f'the doctor behind {kind}', wanted=wanted, got=f'{said}; pystun3 {told}', good=good))
        finally:
            lab.down()
    return rows
