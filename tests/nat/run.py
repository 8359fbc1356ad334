#!/usr/bin/env python3
"""Files between two people in any two networks, by real processes in namespaces and the WAN emulator (`wan`, `wan nat`).

  run.py                    everything, with a summary at the end; --json FILE for a program
  run.py --rows pairs,...   some of it: pairs, blocked, ipv6, trouble, relay, routers, chat, doctor
  run.py --short            a try of some rows, small files, and no figure is held against what is wanted
  run.py --pairs cone/cone,symmetric/none       these pairs
  run.py --trouble moved|moved-asker|both-moved|slept|cut|cut-asker [--pairs ...]   what happens in the middle of a transfer
  run.py --trouble opens|closes [--pairs ...]   a direct way that opens later; one that closes and opens again
  run.py --forwarded [--pairs symmetric/symmetric]         the holder's router forwards two ports, named with --candidate
  run.py --chat ['CASE;CASE']  how long a line of chat takes while a relay is full

Wants root, `ip`, `nft`, and the emulator: its path stands in SECCHAT_WAN. Where one of them is missing it says so and passes.
In a pair the holder of the file comes first. `none` is a host with a public address and no router, `no-udp` one behind a router that
lets no UDP through.
"""
import argparse, concurrent.futures, itertools, json, os, shutil, signal, sys
import chat, rows
from lab import BLOCKED, KINDS

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = ['pairs', 'blocked', 'ipv6', 'trouble', 'relay', 'routers', 'chat', 'doctor']
SHORT_PAIRS = [('cone', 'cone'), ('none', 'symmetric'), ('symmetric', 'cone')]
BLOCKED_PAIRS = [(BLOCKED, 'cone'), ('cone', BLOCKED), (BLOCKED, BLOCKED), (BLOCKED, 'none'), ('none', BLOCKED)]


def tell(row):
    print(f'{"ok  " if row["good"] else "NOT "} {row["what"]:<52} {row["got"]}  {" | ".join(row.get("failures", []))[:400]}', flush=True)


def jobs(args):
    """What can run beside each other, and what must be alone, for it is a measurement."""
    beside, alone = [], []
    each = args.row_pairs
    if 'pairs' in args.rows:
        pairs = each or (SHORT_PAIRS if args.short else list(itertools.product(KINDS, KINDS)))
        beside += [('pairs', lambda pair=pair: [rows.tries(args, *pair)]) for pair in pairs]
    if 'blocked' in args.rows:
        beside += [('blocked', lambda pair=pair: [rows.tries(args, *pair)]) for pair in (BLOCKED_PAIRS[:1] if args.short else BLOCKED_PAIRS)]
    if 'ipv6' in args.rows:
        beside.append(('ipv6', lambda: rows.ipv6(args)))
    if 'trouble' in args.rows:
        kinds = [args.trouble] if args.trouble else ['moved', 'cut', 'opens'] if args.short else [*rows.TROUBLES, *rows.CHANGES]
        pairs = each or list(rows.WAYS.values())
        beside += [('trouble', lambda what=what, pair=pair: [rows.trouble(args, what, *pair)])
                   for pair in pairs for what in kinds if what in rows.TROUBLES]
        beside += [('trouble', lambda what=what, pair=pair: [rows.changes(args, what, *pair)])
                   for pair in each or [rows.WAYS[rows.DIRECT]] for what in kinds if what in rows.CHANGES]
    for name, work in (('relay', rows.relay_rate), ('routers', rows.rate_through_routers), ('chat', chat.chat), ('doctor', rows.doctor)):
        if name in args.rows:
            alone.append((name, lambda work=work: work(args)))
    return beside, alone


def one(args, job):
    name, work = job
    try:
        found = work()
    except Exception as error:  # Whatever it is, the other rows are still of interest.
        found = [dict(what=name, wanted='a run', got=f'{type(error).__name__}: {error}', good=False)]
    for row in found:
        row['row'] = name
        if name != 'chat' or row['what'] == name:
            args.tell(row)
    return found


def everything(args):
    beside, alone = jobs(args)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        found = [row for part in pool.map(lambda job: one(args, job), beside) for row in part]
    for job in alone:
        found += one(args, job)
    wrong = [row for row in found if not row['good']]
    print(f'\n{"":4} {"what":<58} {"wanted":<50} got')
    for row in found:
        print(f'{"ok" if row["good"] else "NOT":<4} {row["what"]:<58} {row["wanted"]:<50} {row["got"]}')
    print(f'\n{len(found) - len(wrong)} of {len(found)} as wanted; load of the machine now {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors')
    if args.json:
        json.dump(found, open(args.json, 'w'), indent=1)
    return bool(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--secchat', default=os.environ.get('SECCHAT_BINARY', f'{HERE}/../../target/release/secchat'))
    parser.add_argument('--wan', default=os.environ.get('SECCHAT_WAN', 'wan'))
    parser.add_argument('--rows', type=lambda text: text.split(','))
    parser.add_argument('--short', action='store_true')
    parser.add_argument('--tries', type=int)
    parser.add_argument('--jobs', type=int, default=3, help='emulated networks at a time')
    parser.add_argument('--pairs', help='HOLDER/ASKER with commas between')
    parser.add_argument('--delay', default='25ms', help='one way')
    parser.add_argument('--patience', type=float, default=60, help='seconds for each try')
    parser.add_argument('--limit', type=float, help='seconds to the first byte, whatever the row says')
    parser.add_argument('--trouble', choices=[*rows.TROUBLES, *rows.CHANGES])
    parser.add_argument('--forwarded', action='store_true')
    parser.add_argument('--doctor', action='store_true')
    parser.add_argument('--chat', nargs='?', const='all', metavar='CASES', help='of these, with semicolons between: ' + '; '.join(chat.CASES))
    parser.add_argument('--cap', default='30M', help="the capped relay's rate, bytes a second")
    parser.add_argument('--seconds', type=float, help='of talk in each case')
    parser.add_argument('--equal', action='store_true', help='who talks has no better priority than the rest')
    parser.add_argument('--disk-dir', default='/var/tmp', help='a directory on a real disk; all else is in memory')
    parser.add_argument('--size', type=int, help='MiB of each file over a relay')
    parser.add_argument('--runs', type=int, help='of which the median is told')
    parser.add_argument('--holder', type=str.split, default=[], help='more options of the holder')
    parser.add_argument('--asker', type=str.split, default=[], help='more options of the asker')
    parser.add_argument('--no-relay', action='store_true', help='pairs that need a relay may fail')
    parser.add_argument('--json', help='the table, for a program')
    args = parser.parse_args()
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    if os.geteuid() != 0 or not shutil.which('ip') or not shutil.which('nft'):
        print('skipped: namespaces and routers need root, ip and nft')
        return 0
    args.wan = shutil.which(args.wan)
    if not args.wan or not os.path.exists('/dev/net/tun'):
        print('skipped: SECCHAT_WAN does not name the emulator, or there is no /dev/net/tun')
        return 0
    args.tell = tell
    args.tries = args.tries or (1 if args.short else 20)
    args.size, args.runs = args.size or (64 if args.short else 512), args.runs or (1 if args.short else 3)
    args.seconds = args.seconds or (3 if args.short else 20)
    args.row_pairs = [tuple(pair.split('/')) for pair in args.pairs.split(',')] if args.pairs else None
    args.chat_cases = args.chat.split(';') if args.chat and args.chat != 'all' else None
    named = [name for name, on in (('chat', args.chat), ('doctor', args.doctor), ('trouble', args.trouble)) if on]
    args.rows = args.rows or named or (['pairs'] if args.pairs or args.forwarded else ROWS)
    return 1 if everything(args) else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
