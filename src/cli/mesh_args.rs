//! The options of a server in a mesh, and what is made of them.

use super::exit::ExitCode;
use super::mesh_cert;
use super::report::Report;
use crate::crypto::identity::{Fingerprint, Identity};
use crate::mesh::run::{Mesh, MeshConfig, MeshStartError};
use crate::store::mesh::MeshFiles;
use crate::wire::endpoint::{Endpoint, MESH_PORT};
use crate::wire::name::Name;
use crate::wire::vouch::ServerTrust;
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Servers that are linked form a mesh: users of one reach rooms and people of all.
#[derive(Debug, Args)]
#[command(next_help_heading = "Mesh")]
pub struct MeshArgs {
    /// Let other servers link with this one here; may be given several times
    #[arg(long, value_name = "ADDR:PORT", env = "SECCHAT_SERVER_MESH_LISTEN", value_delimiter = ',')]
    mesh_listen: Vec<SocketAddr>,
    /// Link with the server at its --mesh-listen address, port 7444 if none is given, and again whenever the link is lost; may be
    /// given several times. One of two servers needs to dial; it is fine if both do
    #[arg(long, value_name = "HOST[:PORT]", env = "SECCHAT_SERVER_LINK", value_delimiter = ',', value_parser = parse_link)]
    link: Vec<Endpoint>,
    /// What `secchat cert issue` made for this server: its certificate, whom to believe, and maybe its key
    #[arg(long, value_name = "DIR", env = "SECCHAT_SERVER_MESH_CERTS")]
    mesh_certs: Option<PathBuf>,
    /// Believe that the server called NAME is the one with this pin, whatever an authority says; may be given several times.
    /// Each server prints its pin at its start
    #[arg(long, value_name = "NAME=PIN", env = "SECCHAT_SERVER_MESH_TRUST", value_delimiter = ',', value_parser = parse_trust)]
    mesh_trust: Vec<(Name, Fingerprint)>,
}

/// What was found in `--mesh-certs`.
#[derive(Debug)]
pub struct Certs {
    dir: PathBuf,
    files: MeshFiles,
}

impl Certs {
    /// The name that the certificate is for.
    pub const fn name(&self) -> &Name {
        &self.files.cert.name
    }
}

impl MeshArgs {
    /// Reads `--mesh-certs`; a key that came with the certificate becomes the server's, if it has none yet.
    pub fn certs(&self, data: &Path) -> Result<Option<Certs>, Report> {
        let Some(dir) = self.mesh_certs.clone() else { return Ok(None) };
        let files = mesh_cert::take_up(&dir, data)?;
        Ok(Some(Certs { dir, files }))
    }

    /// Binds the mesh's sockets, if a mesh is wanted.
    pub fn bind(
        &self,
        certs: Option<Certs>,
        identity: &Identity,
        name: &Name,
        endpoints: Vec<String>,
    ) -> Result<Option<Mesh>, Report> {
        if let Some(Certs { dir, files }) = &certs {
            mesh_cert::check(dir, files, identity, name)?;
        }
        if self.mesh_listen.is_empty() && self.link.is_empty() {
            return if certs.is_none() && self.mesh_trust.is_empty() { Ok(None) } else { Err(no_links()) };
        }
        if certs.is_none() && self.mesh_trust.is_empty() {
            return Err(Report::new(ExitCode::Usage, "it is not said which other servers to believe").hint(
                "give --mesh-certs DIR (see `secchat cert issue --help`), or --mesh-trust NAME=PIN for each server",
            ));
        }
        let (authorities, vouch) = certs.map(|c| (c.files.authorities, c.files.cert)).unzip();
        let trust = ServerTrust { authorities: authorities.unwrap_or_default(), listed: self.mesh_trust.clone() };
        let (listen, links) = (self.mesh_listen.clone(), self.link.clone());
        let (identity, name) = (identity.clone(), name.clone());
        Ok(Some(Mesh::bind(MeshConfig { identity, name, vouch, trust, listen, links, endpoints })?))
    }
}

impl From<MeshStartError> for Report {
    fn from(error: MeshStartError) -> Self {
        let taken = matches!(&error, MeshStartError::Listen { .. });
        let report = Self::new(ExitCode::Failed, error);
        if taken { report.hint("choose another address with --mesh-listen") } else { report }
    }
}

/// A server that is told whom to believe and would stand alone is not what was meant.
fn no_links() -> Report {
    Report::new(ExitCode::Usage, "--mesh-certs or --mesh-trust is given, and this server would link with no other one")
        .hint("say --mesh-listen ADDR:PORT to let others link with it, --link HOST:PORT to link with one, or both")
}

fn parse_link(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse_with(text, MESH_PORT).map_err(|e| e.to_string())
}

fn parse_trust(text: &str) -> Result<(Name, Fingerprint), String> {
    let (name, pin) = text.split_once('=').ok_or("write NAME=PIN, for example s2=4f3a..")?;
    Ok((Name::parse(name).map_err(|e| e.to_string())?, pin.parse::<Fingerprint>().map_err(|e| e.to_string())?))
}
