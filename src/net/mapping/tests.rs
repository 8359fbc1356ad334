//! Leases from routers of cardboard on loopback: honest ones, old ones, and ones that lie.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::*;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const LEASE: Duration = Duration::from_secs(600);
/// For what must come.
const SOON: Duration = Duration::from_secs(20);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn gateway(last: u8, ssdp: u16) -> Gateway {
    Gateway { ip: Ipv4Addr::new(127, 0, 91, last), own: Ipv4Addr::LOCALHOST, ssdp }
}

/// What a router was asked: our port, for how many seconds.
type Asked = (u16, u32);

/// A router at 127.0.91.`last` that grants what `answer` makes of a question, and tells of each.
fn router(last: u8, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Receiver<Asked> {
    let (told, asked): (Sender<Asked>, _) = channel();
    let socket = UdpSocket::bind((gateway(last, 1).ip, crab_nat::GATEWAY_PORT)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1100];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..len];
            let seconds = |at: usize| u32::from_be_bytes(question[at..at + 4].try_into().unwrap());
            let port = |at: usize| u16::from_be_bytes([question[at], question[at + 1]]);
            let gone = match question {
                [2, 1, ..] => told.send((port(40), seconds(4))),
                [0, 1, ..] => told.send((port(4), seconds(8))),
                _ => Ok(()),
            };
            if gone.is_err() {
                return;
            }
            socket.send_to(&answer(question), from).unwrap();
        }
    });
    asked
}

/// The honest answer of a router that speaks PCP, for at most `most` seconds.
fn pcp(question: &[u8], outside: Ipv4Addr, most: u32) -> Vec<u8> {
    let mut answer = question.to_vec();
    let asked = u32::from_be_bytes(question[4..8].try_into().unwrap());
    answer[1] |= 0x80;
    (answer[2], answer[3]) = (0, 0);
    answer[4..8].copy_from_slice(&asked.min(most).to_be_bytes());
    answer[8..24].fill(0);
    answer[42..44].copy_from_slice(&4242_u16.to_be_bytes());
    answer[44..60].copy_from_slice(&outside.to_ipv6_mapped().octets());
    answer
}

/// That of one that speaks NAT-PMP only.
fn nat_pmp(question: &[u8]) -> Vec<u8> {
    match question {
        [0, 0] => [&[0, 128, 0, 0, 0, 0, 0, 9][..], &OUTSIDE.octets()].concat(),
        [0, 1, ..] if question[8..] == [0; 4] => [&[0, 129, 0, 0, 0, 0, 0, 9], &question[4..6], &[0; 6]].concat(),
        [0, 1, ..] => [&[0, 129, 0, 0, 0, 0, 0, 9], &question[4..6], &[0x10, 0x92], &question[8..]].concat(),
        _ => vec![0, 128 | question[1], 0, 1, 0, 0, 0, 9],
    }
}

#[test]
fn an_address_that_nobody_outside_can_reach_is_not_taken_from_a_router() {
    for bad in
        ["10.0.0.1", "192.168.1.1", "172.16.0.9", "100.64.3.2", "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1"]
    {
        assert!(matches!(outside(bad.parse().unwrap(), 500), Err(Refusal::NotOutside(_))), "{bad}");
    }
    assert!(outside("::ffff:10.0.0.1".parse().unwrap(), 500).is_err());
    assert!(outside("198.51.100.7".parse().unwrap(), 0).is_err());
    let addr = outside("::ffff:198.51.100.7".parse().unwrap(), 500).unwrap();
    assert_eq!(addr, "198.51.100.7:500".parse().unwrap());
}

#[test]
fn a_lease_by_pcp_is_had_renewed_and_given_back() {
    let asked = router(1, |question| pcp(question, OUTSIDE, 7200));
    let mut lease = Lease::open(&runtime(), &gateway(1, 1), 500, LEASE).unwrap();
    assert_eq!((lease.protocol, lease.external, lease.lasts), (Protocol::Pcp, (OUTSIDE, 4242).into(), LEASE));
    lease.renew(&runtime(), LEASE).unwrap();
    Lease::release(vec![lease], &runtime());
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [(500, 600), (500, 600), (500, 0)]);
}

#[test]
fn a_router_that_knows_nat_pmp_only_is_asked_by_that() {
    let asked = router(2, nat_pmp);
    let mut lease = Lease::open(&runtime(), &gateway(2, 1), 500, LEASE).unwrap();
    assert_eq!((lease.protocol, lease.external), (Protocol::NatPmp, (OUTSIDE, 0x1092).into()));
    lease.renew(&runtime(), LEASE).unwrap();
    Lease::release(vec![lease], &runtime());
    let leases: Vec<_> = asked.try_iter().filter(|(_, seconds)| *seconds != 0x2000).collect();
    assert_eq!(leases[leases.len() - 3..], [(500, 600), (500, 600), (500, 0)]);
}

#[test]
fn what_a_router_before_another_router_opens_is_given_back() {
    let asked = router(3, |question| pcp(question, Ipv4Addr::new(100, 64, 1, 1), 7200));
    let refused = Lease::open(&runtime(), &gateway(3, 1), 500, LEASE);
    assert!(matches!(refused, Err(Refusal::NotOutside(_))), "{refused:?}");
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [(500, 600), (500, 0)]);
}

#[test]
fn answers_that_are_cut_or_for_others_or_for_no_time_are_no_leases() {
    let len = std::sync::atomic::AtomicUsize::new(0);
    let _asked = router(4, move |question| {
        let whole = pcp(question, OUTSIDE, 7200);
        let cut = len.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut answer = whole.get(..cut).unwrap_or(&whole).to_vec();
        match cut {
            0..60 => {}
            // Another's nonce, another port, TCP, no port, no time.
            60 => answer[30] ^= 1,
            61 => answer[41] ^= 1,
            62 => answer[36] = 6,
            63 => answer[42..44].fill(0),
            64 => answer[4..8].fill(0),
            _ => answer[3] = 2,
        }
        answer
    });
    for case in 0..=65 {
        let refused = runtime().block_on(pmp::open(&gateway(4, 1), 500, LEASE));
        assert!(refused.is_err(), "{case}: {refused:?}");
    }
}

/// A fault of UPnP.
fn fault(code: u16) -> String {
    format!(
        "<s:Envelope xmlns:s=\"s\"><s:Body><s:Fault><detail><UPnPError><errorCode>{code}</errorCode>\
         <errorDescription>no</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    )
}

/// A router with UPnP at 127.0.91.`last`: `page` gives the answer to each request for a path, with its body. Tells of all requests, and gives
/// its port for discovery and its own.
fn upnp_router(
    last: u8,
    location: impl Fn(SocketAddr) -> String + Send + 'static,
    page: impl Fn(&str, &str) -> String + Send + 'static,
) -> (u16, Receiver<String>) {
    let ip = gateway(last, 1).ip;
    let (search, web) = (UdpSocket::bind((ip, 0)).unwrap(), TcpListener::bind((ip, 0)).unwrap());
    let (ssdp, at) = (search.local_addr().unwrap().port(), web.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((_, from)) = search.recv_from(&mut buffer) {
            let answer = format!("HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: {}\r\n\r\n", location(at));
            search.send_to(answer.as_bytes(), from).unwrap();
        }
    });
    let (told, requests) = channel();
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while stream.read_line(&mut head).unwrap() > 2 {}
            for line in head.lines().map(str::to_lowercase) {
                length = line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let answer = page(&path, &body);
            let _ = told.send(format!("{path} {body}"));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            // Who has read enough hangs up.
            let _ = stream.get_mut().write_all((head + &answer).as_bytes());
        }
    });
    (ssdp, requests)
}

fn description(control: &str) -> String {
    format!(
        "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
         <SCPDURL>/scpd</SCPDURL><controlURL>{control}</controlURL></service></serviceList></device></root>"
    )
}

/// What an honest router says; `outside` is its address.
fn page(path: &str, body: &str, outside: &str) -> String {
    let arguments = ["NewExternalPort", "NewProtocol", "NewInternalPort", "NewInternalClient", "NewLeaseDuration"];
    let argument = |name: &&str| format!("<argument><name>{name}</name><direction>in</direction></argument>");
    let ok = |name: &str, inner: &str| {
        format!(
            "<s:Envelope xmlns:s=\"s\"><s:Body><u:{name}Response xmlns:u=\"u\">{inner}</u:{name}Response></s:Body></s:Envelope>"
        )
    };
    match path {
        "/desc" => description("/control"),
        "/scpd" => {
            let arguments: String = arguments.iter().map(argument).collect();
            let action =
                |name: &str| format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>");
            let actions = action("AddPortMapping") + &action("DeletePortMapping");
            format!("<scpd><actionList>{actions}</actionList></scpd>")
        }
        _ if body.contains("GetExternalIPAddress") => {
            ok("GetExternalIPAddress", &format!("<NewExternalIPAddress>{outside}</NewExternalIPAddress>"))
        }
        _ if body.contains("DeletePortMapping") => ok("DeletePortMapping", ""),
        _ if body.contains(">500</NewExternalPort>") && outside == "198.51.100.8" => fault(718),
        _ if outside == "198.51.100.9" => fault(725),
        _ => ok("AddPortMapping", ""),
    }
}

fn at_desc(web: SocketAddr) -> String {
    format!("http://{web}/desc")
}

/// The mappings made and ended, of what was asked.
fn acts(requests: &Receiver<String>) -> Vec<String> {
    let inner = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_default();
        rest.split_once('<').map(|(value, _)| value.to_owned()).unwrap_or_default()
    };
    let act = |text: String| match (text.contains("<u:AddPortMapping"), text.contains("<u:DeletePortMapping")) {
        (true, _) => Some(format!(
            "{} to {}:{} for {}",
            inner(&text, "NewExternalPort"),
            inner(&text, "NewInternalClient"),
            inner(&text, "NewInternalPort"),
            inner(&text, "NewLeaseDuration")
        )),
        (_, true) => Some(format!("end {}", inner(&text, "NewExternalPort"))),
        _ => None,
    };
    requests.try_iter().filter_map(act).collect()
}

#[test]
fn a_lease_by_upnp_is_had_renewed_and_given_back() {
    let (ssdp, requests) = upnp_router(11, at_desc, |path, body| page(path, body, "198.51.100.7"));
    let mut lease = Lease::open(&runtime(), &gateway(11, ssdp), 500, LEASE).unwrap();
    assert_eq!((lease.protocol, lease.external, lease.lasts), (Protocol::Upnp, (OUTSIDE, 500).into(), LEASE));
    lease.renew(&runtime(), LEASE).unwrap();
    Lease::release(vec![lease], &runtime());
    let granted = "500 to 127.0.0.1:500 for 600";
    assert_eq!(acts(&requests), [granted, granted, "end 500"]);
}

#[test]
fn where_the_port_is_taken_another_one_is_asked_for_and_a_lease_for_ever_is_not() {
    let (ssdp, requests) = upnp_router(12, at_desc, |path, body| page(path, body, "198.51.100.8"));
    let lease = Lease::open(&runtime(), &gateway(12, ssdp), 500, LEASE).unwrap();
    assert!(lease.external.port() >= 0xc000, "{lease:?}");
    assert_eq!(acts(&requests).len(), 2);
    let (ssdp, requests) = upnp_router(13, at_desc, |path, body| page(path, body, "198.51.100.9"));
    let refused = Lease::open(&runtime(), &gateway(13, ssdp), 500, LEASE);
    assert!(matches!(refused, Err(Refusal::Permanent)), "{refused:?}");
    assert_eq!(acts(&requests).len(), 1);
}

#[test]
fn nothing_is_opened_at_a_router_whose_own_address_is_private() {
    for (last, outside) in [(14, "192.168.178.2"), (15, "::1"), (16, "nonsense")] {
        let (ssdp, requests) = upnp_router(last, at_desc, move |path, body| page(path, body, outside));
        assert!(Lease::open(&runtime(), &gateway(last, ssdp), 500, LEASE).is_err());
        assert_eq!(acts(&requests), [""; 0], "{outside}");
    }
}

#[test]
fn nobody_but_the_gateway_is_spoken_to_whatever_is_named() {
    // An answer that names another host; a description whose commands go to another host or by another scheme; one that is endless.
    let victim = TcpListener::bind("127.0.91.99:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let at = victim.local_addr().unwrap();
    let away = move |_| format!("http://{at}/desc");
    let named =
        [format!("http://{at}/control"), format!("//{at}/x"), format!("http://a@{at}/"), "file:///etc/passwd".into()];
    let mut routers = vec![(21, upnp_router(21, away, |path, body| page(path, body, "198.51.100.7")))];
    for (last, control) in (22..).zip(named) {
        let hostile = move |path: &str, body: &str| match path {
            "/desc" => description(&control),
            _ => page(path, body, "198.51.100.7"),
        };
        routers.push((last, upnp_router(last, at_desc, hostile)));
    }
    let endless = |path: &str, _: &str| format!("{path}{}", "<a>".repeat(1 << 20));
    routers.push((31, upnp_router(31, at_desc, endless)));
    for (last, (ssdp, _requests)) in &routers {
        let refused = upnp::open(&gateway(*last, *ssdp), 500, LEASE);
        assert!(matches!(refused, Err(Refusal::Silent)), "{last}: {refused:?}");
    }
    assert_eq!(victim.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn an_answer_to_the_search_by_somebody_else_is_not_heard() {
    let quiet = UdpSocket::bind("127.0.91.41:0").unwrap();
    let ssdp = quiet.local_addr().unwrap().port();
    let (_, requests) = upnp_router(42, at_desc, |path, body| page(path, body, "198.51.100.7"));
    let other = UdpSocket::bind("127.0.91.42:0").unwrap();
    let answering = std::thread::spawn(move || {
        let (_, from) = quiet.recv_from(&mut [0; 1500]).unwrap();
        other.send_to(b"HTTP/1.1 200 OK\r\nLOCATION: http://127.0.91.42:80/desc\r\n\r\n", from).unwrap();
    });
    assert!(matches!(upnp::open(&gateway(41, ssdp), 500, LEASE), Err(Refusal::Silent)));
    answering.join().unwrap();
    assert_eq!(requests.try_iter().count(), 0);
}

fn next(asked: &Receiver<Asked>) -> Asked {
    asked.recv_timeout(SOON).unwrap()
}

#[test]
fn the_keeper_asks_once_it_is_wanted_renews_at_half_of_the_time_and_gives_back_at_the_end() {
    let asked = router(51, |question| pcp(question, OUTSIDE, 2));
    let mapped = [Mapped::default(), Mapped::default()];
    let ports = ["0.0.0.0:501".parse().unwrap(), "[::]:502".parse().unwrap()];
    let mapper = Mapper::start_with(ports, LEASE, mapped.clone(), || Ok(gateway(51, 1))).unwrap();
    assert_eq!(asked.try_recv().ok(), None);
    mapper.touch();
    assert_eq!([next(&asked), next(&asked)], [(501, 600), (502, 600)]);
    let first = Instant::now();
    let mut renewed = [next(&asked), next(&asked)];
    renewed.sort_unstable();
    // As it was granted.
    assert_eq!(renewed, [(501, 2), (502, 2)]);
    assert!(first.elapsed() < Duration::from_secs(2), "{:?}", first.elapsed());
    let outside = Some(SocketAddr::from((OUTSIDE, 4242)));
    assert_eq!(mapped.each_ref().map(|mapped| *mapped.lock().unwrap()), [outside, outside]);
    mapper.end();
    mapper.wait(SOON);
    assert!(asked.try_iter().filter(|(_, seconds)| *seconds == 0).count() == 2);
    assert_eq!(mapped.each_ref().map(|mapped| *mapped.lock().unwrap()), [None, None]);
}

#[test]
fn a_router_that_says_nothing_holds_nobody_up() {
    let _silent = UdpSocket::bind("127.0.91.61:5351").unwrap();
    let mapped = [Mapped::default(), Mapped::default()];
    let ports = ["0.0.0.0:501".parse().unwrap(), "0.0.0.0:502".parse().unwrap()];
    let mapper = Mapper::start_with(ports, LEASE, mapped, || Ok(gateway(61, 1))).unwrap();
    let began = Instant::now();
    mapper.hold(true);
    mapper.touch();
    mapper.end();
    mapper.wait(Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_port_that_hears_nothing_from_the_router_is_not_asked_for() {
    let asked = router(71, |question| pcp(question, OUTSIDE, 7200));
    let mapped = [Mapped::default(), Mapped::default()];
    let ports = ["127.0.0.9:501".parse().unwrap(), "127.0.0.1:502".parse().unwrap()];
    let mapper = Mapper::start_with(ports, LEASE, mapped, || Ok(gateway(71, 1))).unwrap();
    mapper.hold(true);
    assert_eq!(next(&asked), (502, 600));
    drop(mapper);
    assert_eq!(next(&asked), (502, 0));
}
