//! The authority of a mesh: `secchat cert init --mesh`, `secchat cert issue`, and what a server makes of the outcome.

use super::exit::ExitCode;
use super::report::Report;
use crate::crypto::identity::{Identity, PublicKey};
use crate::net::clock::wall_ms;
use crate::store::identity::{self, IdentityError};
use crate::store::mesh::{self, MeshFiles};
use crate::store::private;
use crate::wire::cert::CertError;
use crate::wire::name::Name;
use crate::wire::vouch::ServerCert;
use clap::Args;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `secchat cert issue`.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The authority's directory, which `secchat cert init DIR --mesh` made
    dir: PathBuf,
    /// The server's name, the part after the @
    #[arg(value_parser = parse_name)]
    name: Name,
    /// The server's public key, if it has one already
    #[arg(long, value_name = "PUBLIC-KEY")]
    key: Option<PublicKey>,
    /// Where to put what the server needs; by default DIR/NAME
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// For how long
    #[arg(long, value_name = "DAYS", default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// Makes an authority where none is.
pub fn init(dir: &Path) -> Result<(), Report> {
    private::make_dir(dir)?;
    let (key, public) = (mesh::key_in(dir), mesh::public_in(dir));
    if let Some(taken) = [&key, &public].into_iter().find(|path| path.exists()) {
        return Err(Report::new(ExitCode::Failed, format!("{} is there already", taken.display()))
            .hint("choose another directory: servers that were vouched for by that key need it again one day"));
    }
    let authority = identity::create(&key, None)?.public();
    mesh::write_authorities(&public, &[authority])?;
    writeln!(
        io::stdout().lock(),
        "authority  {authority}\nsecret     {}\nbelieve    {}",
        key.display(),
        public.display()
    )?;
    Ok(())
}

/// Signs for a server.
pub fn issue(args: &IssueArgs) -> Result<(), Report> {
    let authority = match identity::load(&mesh::key_in(&args.dir), None) {
        Err(IdentityError::File(error)) if error.is_absent() => {
            let dir = args.dir.display();
            return Err(Report::new(ExitCode::Failed, format!("there is no mesh authority in {dir}"))
                .hint(format!("make one: secchat cert init {dir} --mesh")));
        }
        loaded => loaded?,
    };
    let out = args.out.clone().unwrap_or_else(|| args.dir.join(args.name.as_str()));
    private::make_dir(&out)?;
    let key = server_key(args, &out)?;
    let lifetime = u64::from(args.days) * 24 * 3600 * 1000;
    let cert = ServerCert::issue(&authority, args.name.clone(), key, wall_ms().saturating_add(lifetime));
    mesh::write_cert(&mesh::cert_in(&out), &cert, &date(cert.not_after))?;
    mesh::write_authorities(&mesh::public_in(&out), &mesh::read_authorities(&mesh::public_in(&args.dir))?)?;
    let (name, until, out) = (&args.name, date(cert.not_after), out.display());
    writeln!(io::stdout().lock(), "server     {name}\nkey        {key}\nuntil      {until}\nfor it     {out}")?;
    Ok(())
}

/// The key to sign for: the one given, or the one that is there from last time, or a new one.
fn server_key(args: &IssueArgs, out: &Path) -> Result<PublicKey, Report> {
    let (secret, cert) = (identity::path_in(out), mesh::cert_in(out));
    let earlier = if secret.exists() {
        Some(identity::load(&secret, None)?.public())
    } else if cert.exists() {
        Some(mesh::read_cert(&cert)?.key())
    } else {
        None
    };
    match (args.key, earlier) {
        (Some(given), Some(earlier)) if given != earlier => {
            Err(Report::new(ExitCode::Failed, format!("{} belongs to another key: {earlier}", out.display()))
                .hint("if the server has a new key now, move that directory away first"))
        }
        (Some(key), _) | (None, Some(key)) => Ok(key),
        (None, None) => Ok(identity::create(&secret, None)?.public()),
    }
}

/// Takes what a `--mesh-certs` directory has for the server: its key, if the data directory has none yet.
pub fn take_up(certs: &Path, data: &Path) -> Result<MeshFiles, Report> {
    let files = mesh::load(certs)?;
    let own = identity::path_in(data);
    if let (Some(identity), false) = (&files.identity, own.exists()) {
        identity::save_new(&own, identity, None)?;
    }
    Ok(files)
}

/// Whether the certificate is for this server and holds.
pub fn check(certs: &Path, files: &MeshFiles, identity: &Identity, name: &Name) -> Result<(), Report> {
    let (cert, shown) = (&files.cert, mesh::cert_in(certs));
    let shown = shown.display();
    let failed = |cause: String, hint: String| Err(Report::new(ExitCode::Failed, cause).hint(hint));
    let key = identity.public();
    if cert.key() != key {
        return failed(
            format!("{shown} is for the key {}, and this server has {key}", cert.key()),
            format!(
                "where the authority is: secchat cert issue DIR {name} --key {key}; or give it an empty data directory"
            ),
        );
    }
    if cert.name != *name {
        return failed(
            format!("{shown} is for a server called {}, and this one is called {name}", cert.name),
            format!("start it with --name {}, or have one issued for {name}", cert.name),
        );
    }
    let judged = files.authorities.iter().map(|authority| cert.check(authority, wall_ms()));
    match judged.reduce(Result::or) {
        Some(Ok(())) => Ok(()),
        Some(Err(CertError::Expired)) => {
            failed(format!("{shown} has expired"), format!("renew it: secchat cert issue DIR {name}"))
        }
        _ => failed(
            format!("{shown} is not signed by an authority in {}", mesh::public_in(certs).display()),
            "copy the whole directory that `secchat cert issue` made".into(),
        ),
    }
}

fn date(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "?".into(), |at| at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|e| e.to_string())
}
