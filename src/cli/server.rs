//! `secchat server`.

use super::exit::ExitCode;
use super::mesh_args::{Certs, MeshArgs};
use super::report::Report;
use super::{cert, console, logging, places, reread, values};
use crate::crypto::identity::Identity;
use crate::crypto::room::{DoorHasher, DoorKey};
use crate::limits::LOST_GRACE;
use crate::mesh::run::{Mesh, MeshConfig};
use crate::net::clock::wall_ms;
use crate::server::accept::Caps;
use crate::server::actor::MeshPort;
use crate::server::forwarding::RelayLimits;
use crate::server::meshed::Meshed;
use crate::server::metrics;
use crate::server::operations::Operations;
use crate::server::relay::{Relay, RelayConfig};
use crate::server::reload::CertificateFiles;
use crate::server::run::{Control, Server, ServerConfig};
use crate::server::{Config, Core, Retention};
use crate::store::{ServerStore, identity, private};
use crate::wire::endpoint::Endpoint;
use crate::wire::invite::{Host, Invite};
use crate::wire::name::Name;
use crate::wire::vouch::ServerTrust;
use clap::Args;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Options of `secchat server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secchat server
  secchat server --name s1 --listen 127.0.0.1:7443 --data /var/lib/secchat
  secchat server --cert /etc/letsencrypt/live/chat.example.org/fullchain.pem \\
                 --key  /etc/letsencrypt/live/chat.example.org/privkey.pem
  secchat cert init certs --name chat.example.org && secchat server --cert certs/server.pem
  secchat cert init certs --mesh && secchat cert issue certs s1 && secchat cert issue certs s2
  secchat server --name s1 --mesh-certs certs/s1 --mesh-listen 0.0.0.0:7444
  secchat server --name s2 --mesh-certs certs/s2 --link s1.example.org:7444")]
pub struct ServerArgs {
    /// Listen here; may be given several times. By default 0.0.0.0:7443 and [::]:7443
    #[arg(long, value_name = "ADDR:PORT", env = "SECCHAT_SERVER_LISTEN", value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// Tell clients their UDP address here (STUN); by default on the listening addresses
    #[arg(long, value_name = "ADDR:PORT", env = "SECCHAT_SERVER_UDP")]
    udp: Option<SocketAddr>,
    /// Certificate chain; the key is taken from the same file or from NAME.key beside it
    #[arg(long, value_name = "PEM", env = "SECCHAT_SERVER_CERT")]
    cert: Option<PathBuf>,
    /// The certificate's key, if it stands elsewhere
    #[arg(long, value_name = "PEM", env = "SECCHAT_SERVER_KEY", requires = "cert")]
    key: Option<PathBuf>,
    /// Where identity, rooms and logs are kept
    #[arg(long, value_name = "DIR", env = "SECCHAT_SERVER_DATA")]
    data: Option<PathBuf>,
    /// The server's name, the part after the @; kept from the first start on
    #[arg(long, value_name = "NAME", env = "SECCHAT_SERVER_NAME", value_parser = parse_name)]
    name: Option<Name>,
    /// The address to put into invites; by default one of this machine's
    #[arg(long, value_name = "HOST[:PORT]", env = "SECCHAT_SERVER_ADVERTISE")]
    advertise: Option<Endpoint>,
    /// A room that nobody has been in for so long goes away, with its log; may change by `admin reload`
    #[arg(long, value_name = "TIME", env = "SECCHAT_SERVER_ROOM_TTL", default_value = "30d", value_parser = values::duration)]
    room_ttl: Duration,
    /// How long the sealed log of a room is kept
    #[arg(long, value_name = "TIME", env = "SECCHAT_SERVER_LOG_AGE", default_value = "7d", value_parser = values::duration)]
    log_age: Duration,
    /// How large the sealed log of each room may grow
    #[arg(long, value_name = "BYTES", env = "SECCHAT_SERVER_LOG_BYTES", default_value = "64M", value_parser = values::bytes)]
    log_bytes: u64,
    /// Most that is passed on of one user's files to those who cannot be reached directly, a second; 0 passes nothing on; these four may change by `admin reload`
    #[arg(long, value_name = "BYTES", env = "SECCHAT_SERVER_RELAY_USER_RATE", default_value = "512M", value_parser = values::bytes)]
    relay_user_rate: u64,
    /// ... of all users' files together, a second
    #[arg(long, value_name = "BYTES", env = "SECCHAT_SERVER_RELAY_RATE", default_value = "1G", value_parser = values::bytes)]
    relay_rate: u64,
    /// ... of one user's files, a day
    #[arg(long, value_name = "BYTES", env = "SECCHAT_SERVER_RELAY_USER_BYTES", default_value = "1T", value_parser = values::bytes)]
    relay_user_bytes: u64,
    /// ... of all users' files together, a day
    #[arg(long, value_name = "BYTES", env = "SECCHAT_SERVER_RELAY_BYTES", default_value = "16T", value_parser = values::bytes)]
    relay_bytes: u64,
    /// Tell Prometheus what goes on at http://ADDR:PORT/metrics; a port alone is served on loopback
    #[arg(long, value_name = "[ADDR:]PORT", env = "SECCHAT_SERVER_METRICS", value_parser = metrics::parse_address)]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    mesh: MeshArgs,
    /// The whole command line, to be read again with the settings file.
    #[arg(skip)]
    pub typed: Vec<OsString>,
}

impl ServerArgs {
    pub(super) const fn relay_limits(&self) -> RelayLimits {
        RelayLimits {
            user_rate: self.relay_user_rate,
            rate: self.relay_rate,
            user_bytes: self.relay_user_bytes,
            bytes: self.relay_bytes,
        }
    }

    /// What of it may change while the server runs.
    pub(super) const fn retention(&self) -> Retention {
        Retention { log_age: self.log_age, log_bytes: self.log_bytes, room_ttl: self.room_ttl }
    }
}

/// Runs until it is told to stop.
pub fn run(args: Box<ServerArgs>) -> Result<ExitCode, Report> {
    logging::start("info")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(*args));
    // All that must be done is done. A write that the disk does not take is not waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(args: ServerArgs) -> Result<ExitCode, Report> {
    let dir = data_dir(args.data.clone())?;
    let store = ServerStore::open(&dir)?;
    let certs = args.mesh.certs(&dir)?;
    let identity = identity::load_or_create(&dir, None)?;
    let name = server_name(&dir, args.name.clone(), certs.as_ref().map(Certs::name), &identity)?;
    let server = Server::bind(ServerConfig {
        listen: args.listen.clone(),
        udp: args.udp,
        certificate: certificate_files(&args, &dir)?,
        identity: identity.clone(),
        name: name.clone(),
        caps: Caps::default(),
        relay: args.relay_limits(),
    })?;
    let endpoint = endpoint(&server.addresses(), args.advertise.as_ref());
    let mesh = args.mesh.bind(certs, &identity, &name, vec![endpoint.to_string()])?;
    let mesh_addresses = mesh.as_ref().map(Mesh::addresses).unwrap_or_default();
    let mut config = core_config(&args, name.clone(), server.stun_port())?;
    if let Some(mesh) = mesh.as_ref().map(Mesh::config) {
        (config.trust, config.vouch) = (mesh.trust.clone(), mesh.vouch.clone());
    }
    let relay = mesh.as_ref().map(|mesh| relay(mesh.config())).transpose()?;
    let core = Core::new(config, identity.clone(), store.load()?, Duration::ZERO, wall_ms())
        .map_err(|e| Report::new(ExitCode::Failed, e))?;
    // Signals are caught before the world hears that the server is up.
    let control = signals()?;
    let (port, running) = match mesh.map(Mesh::start).transpose()? {
        Some((handle, events, running)) => (Some(MeshPort { handle, events }), Some(running)),
        None => (None, None),
    };
    let operations = Operations::bind(args.metrics, &dir, port.as_ref().map(|port| port.handle.clone()))?;
    announce(&server.addresses(), &mesh_addresses, operations.metrics_address(), &name, &identity, endpoint)?;
    let settings = reread::settings(args.typed);
    let server = server.operated(operations.with_settings(settings).with_console(console::start()));
    match relay.zip(port) {
        Some((relay, port)) => server.linked(port).run(Meshed::new(core, relay), store, control).await?,
        None => server.run(core, store, control).await?,
    }
    if let Some(running) = running {
        running.stop().await;
    }
    tracing::info!("stopped");
    Ok(ExitCode::Done)
}

fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, Report> {
    given.or_else(|| places::data_dir("server")).ok_or_else(|| {
        Report::new(ExitCode::Usage, "there is no home directory to keep data in").hint("choose one with --data")
    })
}

/// Names of people hold the server's name, so it stays what it was at the first start unless the operator says otherwise.
fn server_name(dir: &Path, given: Option<Name>, certified: Option<&Name>, identity: &Identity) -> Result<Name, Report> {
    let path = dir.join("name");
    let kept = std::fs::read_to_string(&path).ok().and_then(|text| Name::parse(text.trim()).ok());
    let name = match (given, &kept) {
        (Some(given), _) => given,
        (None, Some(kept)) => return Ok(kept.clone()),
        (None, None) => certified.cloned().map_or_else(|| default_name(identity), Ok)?,
    };
    if kept.as_ref() == Some(&name) {
        return Ok(name);
    }
    if let Some(kept) = kept {
        tracing::warn!("the server was called {kept} and is called {name} now: users must approve it anew");
    }
    private::replace(&path, format!("{name}\n").as_bytes())?;
    Ok(name)
}

/// The host's name if it has one that says something; else one made from the identity.
fn default_name(identity: &Identity) -> Result<Name, Report> {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let label = host.trim().split('.').next().unwrap_or_default();
    match Name::parse(label) {
        Ok(name) if name.as_str() != "localhost" => Ok(name),
        _ => {
            let fingerprint = identity.public().fingerprint().to_string();
            let made = format!("s-{}", fingerprint.get(..8).unwrap_or_default());
            Name::parse(&made).map_err(|e| Report::new(ExitCode::Failed, e))
        }
    }
}

fn certificate_files(args: &ServerArgs, dir: &Path) -> Result<CertificateFiles, Report> {
    if let Some(certificate) = args.cert.clone() {
        return Ok(CertificateFiles { certificate, key: args.key.clone() });
    }
    let (certificate, key) = (dir.join("tls.pem"), dir.join("tls.key"));
    if !certificate.exists() || !key.exists() {
        let (certificate_pem, key_pem) = cert::self_signed(vec!["localhost".into()])
            .map_err(|e| Report::new(ExitCode::Failed, format!("cannot make a certificate: {e}")))?;
        private::replace(&key, key_pem.as_bytes())?;
        private::replace(&certificate, certificate_pem.as_bytes())?;
    }
    // Read here for its check only: our own key must not lie open.
    private::read(&key, KEY_MAX)?;
    Ok(CertificateFiles { certificate, key: Some(key) })
}

fn core_config(args: &ServerArgs, name: Name, stun_port: u16) -> Result<Config, Report> {
    let (mut door, mut salt) = ([0; 32], [0; 16]);
    getrandom::fill(&mut door)
        .and_then(|()| getrandom::fill(&mut salt))
        .map_err(|e| Report::new(ExitCode::Failed, e))?;
    Ok(Config {
        name,
        stun_port,
        log_age: args.log_age,
        log_bytes: args.log_bytes,
        room_ttl: args.room_ttl,
        lost_grace: LOST_GRACE,
        trust: ServerTrust::default(),
        vouch: None,
        decoy_phc: DoorHasher::default().hash(&DoorKey::from_bytes(door), salt),
    })
}

fn relay(mesh: &MeshConfig) -> Result<Relay, Report> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|e| Report::new(ExitCode::Failed, e))?;
    let (identity, name) = (mesh.identity.clone(), mesh.name.clone());
    Ok(Relay::new(RelayConfig { name, identity, authorities: mesh.trust.authorities.clone(), secret }))
}

/// What users need, on standard output; one fact a line.
fn announce(
    addresses: &[SocketAddr],
    mesh: &[SocketAddr],
    metrics: Option<SocketAddr>,
    name: &Name,
    identity: &Identity,
    endpoint: Endpoint,
) -> Result<(), Report> {
    let pin = identity.public().fingerprint();
    let Endpoint { host, port } = endpoint;
    let invite = Invite { host, port, pin, server: name.clone(), room: None };
    let mut out = io::stdout().lock();
    writeln!(out, "server     {name}")?;
    for address in addresses {
        writeln!(out, "listening  {address}")?;
    }
    for address in mesh {
        writeln!(out, "mesh       {address}")?;
    }
    if let Some(address) = metrics {
        writeln!(out, "metrics    http://{address}/metrics")?;
    }
    writeln!(out, "pin        {pin}")?;
    writeln!(out, "invite     {}", invite.to_url(false).as_str())?;
    out.flush()?;
    Ok(())
}

/// Where clients are told to come: what the operator says, or an address under which others may reach one of the sockets.
fn endpoint(addresses: &[SocketAddr], advertise: Option<&Endpoint>) -> Endpoint {
    if let Some(endpoint) = advertise {
        return endpoint.clone();
    }
    let port = addresses.first().map_or(0, SocketAddr::port);
    let named = addresses.iter().find(|address| !address.ip().is_unspecified()).copied();
    let address = named.unwrap_or_else(|| SocketAddr::new(own_address().unwrap_or(Ipv4Addr::LOCALHOST.into()), port));
    let host = match address.ip() {
        IpAddr::V4(ip) => Host::V4(ip),
        IpAddr::V6(ip) => Host::V6(ip),
    };
    Endpoint { host, port: address.port() }
}

fn own_address() -> Option<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(_) => false,
    };
    interfaces.into_iter().map(|interface| interface.ip()).find(usable)
}

#[cfg(unix)]
fn signals() -> Result<mpsc::Receiver<Control>, Report> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut hangup, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (control, commands) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let command = tokio::select! {
                _ = hangup.recv() => Control::Reload,
                _ = terminate.recv() => Control::Stop,
                _ = interrupt.recv() => Control::Stop,
            };
            if control.send(command).await.is_err() || command == Control::Stop {
                return;
            }
        }
    });
    Ok(commands)
}

#[cfg(not(unix))]
fn signals() -> Result<mpsc::Receiver<Control>, Report> {
    let (control, commands) = mpsc::channel(1);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = control.send(Control::Stop).await;
        }
    });
    Ok(commands)
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|e| e.to_string())
}

/// Largest key file that we make ourselves, bytes.
const KEY_MAX: u64 = 16 * 1024;
