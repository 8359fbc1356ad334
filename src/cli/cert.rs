//! `secchat cert`: a small authority of one's own.

use super::exit::ExitCode;
use super::mesh_cert;
use super::report::Report;
use crate::store::private;
use clap::{Args, Subcommand};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
use rcgen::{KeyPair, KeyUsagePurpose};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Make certificates for servers
#[derive(Debug, Args)]
pub struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Make an authority and a server certificate in a directory; or, with --mesh, an authority for a mesh of servers
    ///
    /// Writes ca.pem, ca.key, server.pem and server.key; keys are readable for you only. Files that are there are left alone.
    /// Hand ca.pem to users, and keep ca.key off the server. With --mesh it writes mesh.key, which signs for servers and stays
    /// off them too, and mesh.pub, which tells servers whom to believe.
    #[command(after_help = "\
Examples:
  secchat cert init certs --name chat.example.org --name 192.0.2.7
  secchat server --cert certs/server.pem
  secchat client --server chat.example.org --ca certs/ca.pem --name bob

  secchat cert init certs --mesh
  secchat cert issue certs s1")]
    Init {
        /// The directory; it is made if it is not there
        dir: PathBuf,
        /// A host name or address that clients connect to
        #[arg(long = "name", value_name = "HOST", required_unless_present = "mesh", num_args = 1..)]
        names: Vec<String>,
        /// Make the authority of a mesh
        #[arg(long)]
        mesh: bool,
    },
    /// Let the authority of a mesh vouch for a server
    ///
    /// Without --key it makes the server's key too: DIR/NAME then holds the server's secret, for that server alone. With --key
    /// the secret stays where it is; `secchat id show --data DIR` prints the public key of a server that has one. Issued again
    /// for the same name, the certificate is renewed for the same key.
    #[command(after_help = "\
Examples:
  secchat cert init certs --mesh
  secchat cert issue certs s1
  secchat server --name s1 --mesh-certs certs/s1 --mesh-listen 0.0.0.0:7444

  secchat id show --data /var/lib/secchat       on the server: its public key
  secchat cert issue certs s2 --key ed25519:4f..  where the authority is; copy certs/s2 to the server")]
    Issue(mesh_cert::IssueArgs),
}

/// Runs the command.
pub fn run(args: CertArgs) -> Result<ExitCode, Report> {
    match args.command {
        CertCommand::Init { dir, names, mesh } => {
            if mesh {
                mesh_cert::init(&dir)?;
            }
            if !names.is_empty() {
                init(&dir, names)?;
                let dir = dir.display();
                writeln!(io::stdout().lock(), "authority  {dir}/ca.pem\nserver     {dir}/server.pem")?;
            }
        }
        CertCommand::Issue(args) => mesh_cert::issue(&args)?,
    }
    Ok(ExitCode::Done)
}

/// A self-signed server certificate and its key, PEM, for a server that is trusted by its identity and not by its certificate.
pub fn self_signed(names: Vec<String>) -> Result<(String, Zeroizing<String>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = server_params(names, YEARS_SELF_SIGNED)?.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

fn init(dir: &Path, names: Vec<String>) -> Result<(), Report> {
    let [ca_pem, ca_key, server_pem, server_key] = FILES.map(|name| dir.join(name));
    if let Some(taken) = [&ca_pem, &ca_key, &server_pem, &server_key].into_iter().find(|path| path.exists()) {
        return Err(Report::new(ExitCode::Failed, format!("{} is there already", taken.display()))
            .hint("choose another directory, or move its files away"));
    }
    private::make_dir(dir)?;
    let failed = |e: rcgen::Error| Report::new(ExitCode::Failed, format!("cannot make the certificate: {e}"));
    let authority_key = KeyPair::generate().map_err(failed)?;
    let authority_params = authority_params();
    let authority = authority_params.self_signed(&authority_key).map_err(failed)?;
    let authority_key_pem = Zeroizing::new(authority_key.serialize_pem());
    let issuer = Issuer::new(authority_params, authority_key);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate =
        server_params(names, YEARS_SERVER).and_then(|params| params.signed_by(&key, &issuer)).map_err(failed)?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    private::write_new(&ca_key, authority_key_pem.as_bytes())?;
    private::write_new(&server_key, key_pem.as_bytes())?;
    write_public(&ca_pem, &authority.pem())?;
    write_public(&server_pem, &certificate.pem())
}

fn authority_params() -> CertificateParams {
    let mut params = valid_for(CertificateParams::default(), YEARS_AUTHORITY);
    params.distinguished_name = named("secchat authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params(names: Vec<String>, years: i16) -> Result<CertificateParams, rcgen::Error> {
    let mut params = valid_for(CertificateParams::new(names)?, years);
    params.distinguished_name = named("secchat server");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// From yesterday on, since clocks differ.
fn valid_for(mut params: CertificateParams, years: i16) -> CertificateParams {
    let today = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        let [month, day] = [date.month(), date.day()].map(|n| u8::try_from(n).unwrap_or(1));
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = day(today.yesterday().unwrap_or(today));
    params.not_after = day(today.saturating_add(jiff::Span::new().years(years)));
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn write_public(path: &Path, text: &str) -> Result<(), Report> {
    let write = || OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes());
    write().map_err(|e| Report::new(ExitCode::Failed, format!("{}: {e}", path.display())))
}

const FILES: [&str; 4] = ["ca.pem", "ca.key", "server.pem", "server.key"];
const YEARS_AUTHORITY: i16 = 10;
const YEARS_SERVER: i16 = 2;
/// Nobody checks its time, but other tools show it.
const YEARS_SELF_SIGNED: i16 = 30;
