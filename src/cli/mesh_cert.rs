//! The authority of a mesh: `secchat cert init --mesh`, `secchat cert issue`, and what a server makes of the outcome.

use super::exit::ExitCode;
use super::report::Report;
use crate::crypto::identity::{Identity, PublicKey};
use crate::net::clock::wall_ms;
use crate::store::identity::{self, IdentityError};
use crate::store::mesh::{self, MeshFileError, MeshFiles};
use crate::store::private::{self, PrivateError};
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
    /// Vouch for another key than last time; what was issued for the earlier one holds until its end
    #[arg(long)]
    new_key: bool,
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
    let mut issued = mesh::read_issued(&mesh::issued_in(&args.dir))?;
    let wanted = wanted_key(args, &out, issued.get(&args.name))?;
    private::make_dir(&out)?;
    let key = match wanted {
        Some(key) => key,
        None => identity::create(&identity::path_in(&out), None)?.public(),
    };
    let lifetime = u64::from(args.days) * 24 * 3600 * 1000;
    let cert = ServerCert::issue(&authority, args.name.clone(), key, wall_ms().saturating_add(lifetime));
    issued.insert(args.name.clone(), key);
    mesh::write_issued(&mesh::issued_in(&args.dir), &issued)?;
    mesh::write_cert(&mesh::cert_in(&out), &cert, &date(cert.not_after))?;
    mesh::write_authorities(&mesh::public_in(&out), &mesh::read_authorities(&mesh::public_in(&args.dir))?)?;
    let (name, until, out) = (&args.name, date(cert.not_after), out.display());
    writeln!(io::stdout().lock(), "server     {name}\nkey        {key}\nuntil      {until}\nfor it     {out}")?;
    Ok(())
}

/// The key to sign for: the one given, or the one that is there from last time; `None` for a new one. Two keys under one name would be
/// two servers of which the mesh takes one, so the second needs a word for it.
fn wanted_key(args: &IssueArgs, out: &Path, issued: Option<&PublicKey>) -> Result<Option<PublicKey>, Report> {
    let (name, dir, shown) = (&args.name, args.dir.display(), out.display());
    let there = key_there(out)?;
    if let (Some(given), Some(there)) = (args.key, there)
        && given != there
    {
        return Err(Report::new(ExitCode::Failed, format!("{shown} belongs to another key: {there}"))
            .hint("if the server has a new key now, move that directory away first, and say --new-key"));
    }
    let wanted = args.key.or(there);
    match issued.filter(|issued| wanted != Some(**issued) && !args.new_key) {
        None => Ok(wanted),
        Some(issued) => Err(Report::new(
            ExitCode::Failed,
            format!("{name} was issued a certificate before, for the key {issued}, which {shown} does not have"),
        )
        .hint(format!(
            "to renew it: secchat cert issue {dir} {name} --key {issued} --out {shown}; if the server is to have another key: --new-key"
        ))),
    }
}

/// The key of a server's directory, whether it is in there or only named by the certificate.
fn key_there(out: &Path) -> Result<Option<PublicKey>, Report> {
    let (secret, cert) = (identity::path_in(out), mesh::cert_in(out));
    Ok(if secret.exists() {
        Some(identity::load(&secret, None)?.public())
    } else if cert.exists() {
        Some(mesh::read_cert(&cert)?.key())
    } else {
        None
    })
}

/// Takes what a `--mesh-certs` directory has for the server: its key, if the data directory has none yet.
pub fn take_up(certs: &Path, data: &Path) -> Result<MeshFiles, Report> {
    let files = mesh::load(certs).map_err(|error| match error {
        MeshFileError::File(error) if error.is_absent() => nothing_there(certs, &error),
        error => error.into(),
    })?;
    let own = identity::path_in(data);
    if let (Some(identity), false) = (&files.identity, own.exists()) {
        identity::save_new(&own, identity, None)?;
    }
    Ok(files)
}

/// The directory, or a file in it, is missing.
fn nothing_there(certs: &Path, error: &PrivateError) -> Report {
    let shown = certs.display();
    let cause = if certs.is_dir() {
        format!("--mesh-certs {shown} is not what `secchat cert issue` makes for a server: {error}")
    } else {
        format!("--mesh-certs {shown}: there is no such directory")
    };
    let name = certs.file_name().and_then(|name| Name::parse(name.to_str()?).ok());
    let name = name.map_or("NAME".to_owned(), |name| name.to_string());
    Report::new(ExitCode::Failed, cause).hint(format!(
        "where the mesh's authority is: secchat cert issue DIR {name}; then copy DIR/{name} here, all of it"
    ))
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
