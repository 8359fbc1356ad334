//! The files of a mesh: an authority's key, what it says of a server, and whom a server believes.
//!
//! ```text
//! DIR/mesh.key         the authority's secret key, an identity file; 0600, never on a server
//! DIR/mesh.pub         secchat mesh authority v1          one `authority` line for each that is believed
//!                      authority ed25519:<64 hex digits>
//! DIR/mesh.issued      secchat mesh issued v1             for which key each server was vouched for last
//!                      NAME ed25519:<64 hex digits>       one such line for each
//! DIR/NAME/mesh.cert   secchat mesh certificate v1
//!                      name <name>                        for people, as the next two: the last line is what counts
//!                      key ed25519:<64 hex digits>
//!                      until <date>
//!                      cert <hex digits of the signed statement>
//! DIR/NAME/mesh.pub    a copy
//! DIR/NAME/identity    the server's secret key, where it was made with its certificate; 0600
//! ```

use super::identity::{self, IdentityError};
use super::private::{self, PrivateError};
use crate::crypto::identity::{Identity, PublicKey};
use crate::wire::name::Name;
use crate::wire::vouch::{SERVER_CERT_MAX, ServerCert};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file of the mesh cannot be used. Each names it.
#[derive(Debug, thiserror::Error)]
pub enum MeshFileError {
    /// Cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateError),
    /// The secret key beside it cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is something else, or damaged.
    #[error("{path} is not a {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
}

/// What a directory that `secchat cert issue` made gives a server.
#[derive(Debug, Clone)]
pub struct MeshFiles {
    /// The authorities that are believed; never empty.
    pub authorities: Vec<PublicKey>,
    /// What one of them says of this server.
    pub cert: ServerCert,
    /// The server's key, where it was made there.
    pub identity: Option<Identity>,
}

/// Reads such a directory. Whether the certificate holds is for the caller to check.
pub fn load(dir: &Path) -> Result<MeshFiles, MeshFileError> {
    let authorities = read_authorities(&public_in(dir))?;
    let cert = read_cert(&cert_in(dir))?;
    let identity = match identity::load(&identity::path_in(dir), None) {
        Ok(identity) => Some(identity),
        Err(IdentityError::File(error)) if error.is_absent() => None,
        Err(error) => return Err(error.into()),
    };
    Ok(MeshFiles { authorities, cert, identity })
}

/// Where an authority keeps its secret key.
pub fn key_in(dir: &Path) -> PathBuf {
    dir.join("mesh.key")
}

/// Where it is said whom to believe.
pub fn public_in(dir: &Path) -> PathBuf {
    dir.join("mesh.pub")
}

/// Where a server's certificate stands.
pub fn cert_in(dir: &Path) -> PathBuf {
    dir.join("mesh.cert")
}

/// Where an authority keeps what it has issued.
pub fn issued_in(dir: &Path) -> PathBuf {
    dir.join("mesh.issued")
}

/// Writes for which key each server was vouched for last.
pub fn write_issued(path: &Path, issued: &BTreeMap<Name, PublicKey>) -> Result<(), MeshFileError> {
    let lines = issued.iter().fold(format!("{ISSUED_HEAD}\n"), |text, (name, key)| text + &format!("{name} {key}\n"));
    Ok(private::replace(path, lines.as_bytes())?)
}

/// Reads it; where there is no such file nothing was issued.
pub fn read_issued(path: &Path) -> Result<BTreeMap<Name, PublicKey>, MeshFileError> {
    let content = || MeshFileError::Content { path: path.to_owned(), what: "list of issued certificates" };
    let text = match read_text(path, ISSUED_MAX) {
        Err(MeshFileError::File(error)) if error.is_absent() => return Ok(BTreeMap::new()),
        read => read?.ok_or_else(content)?,
    };
    let mut lines = text.lines();
    if lines.next() != Some(ISSUED_HEAD) {
        return Err(content());
    }
    let line = |line: &str| {
        let (name, key) = line.split_once(' ')?;
        Some((Name::parse(name).ok()?, key.trim().parse().ok()?))
    };
    lines.map(line).collect::<Option<_>>().ok_or_else(content)
}

/// Writes a list of authorities.
pub fn write_authorities(path: &Path, authorities: &[PublicKey]) -> Result<(), MeshFileError> {
    let lines =
        authorities.iter().fold(format!("{AUTHORITY_HEAD}\n"), |text, key| text + &format!("authority {key}\n"));
    Ok(private::replace(path, lines.as_bytes())?)
}

/// Reads a list of authorities; never empty. It is public, but whoever may change it says who is believed, so others must not.
pub fn read_authorities(path: &Path) -> Result<Vec<PublicKey>, MeshFileError> {
    let content = || MeshFileError::Content { path: path.to_owned(), what: "list of mesh authorities" };
    let text = read_text(path, FILE_MAX)?.ok_or_else(content)?;
    let mut lines = text.lines();
    if lines.next() != Some(AUTHORITY_HEAD) {
        return Err(content());
    }
    let keys = lines.map(|line| line.strip_prefix("authority ")?.trim().parse().ok()).collect::<Option<Vec<_>>>();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(content)
}

/// Writes a certificate; `until` is its end for people.
pub fn write_cert(path: &Path, cert: &ServerCert, until: &str) -> Result<(), MeshFileError> {
    let mut text = format!("{CERT_HEAD}\nname {}\nkey {}\nuntil {until}\ncert ", cert.name, cert.key());
    for byte in cert.to_bytes() {
        write!(text, "{byte:02x}").expect("writing to memory");
    }
    text.push('\n');
    Ok(private::replace(path, text.as_bytes())?)
}

/// Reads a certificate; checks nothing but its shape.
pub fn read_cert(path: &Path) -> Result<ServerCert, MeshFileError> {
    let content = || MeshFileError::Content { path: path.to_owned(), what: "server's mesh certificate" };
    let text = read_text(path, FILE_MAX)?.ok_or_else(content)?;
    let mut lines = text.lines();
    if lines.next() != Some(CERT_HEAD) {
        return Err(content());
    }
    let digits = lines.find_map(|line| line.strip_prefix("cert ")).ok_or_else(content)?;
    let bytes = unhex(digits.trim()).ok_or_else(content)?;
    ServerCert::from_bytes(&bytes).map_err(|_| content())
}

/// `None` for what is not text.
fn read_text(path: &Path, max: u64) -> Result<Option<String>, MeshFileError> {
    let io_error = |source: io::Error| PrivateError::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io_error)?.len();
    if size > max {
        return Err(PrivateError::TooLarge { path: path.to_owned(), max }.into());
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) => Err(io_error(error).into()),
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if digits.len() > 2 * SERVER_CERT_MAX || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

/// Largest of these files, bytes.
const FILE_MAX: u64 = 16 * 1024;
/// The same for what was issued in all.
const ISSUED_MAX: u64 = 4 << 20;
const ISSUED_HEAD: &str = "secchat mesh issued v1";
const AUTHORITY_HEAD: &str = "secchat mesh authority v1";
const CERT_HEAD: &str = "secchat mesh certificate v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_directory_reads_back_and_what_is_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, server) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let cert = ServerCert::issue(&authority, Name::parse("s1").unwrap(), server.public(), 7);
        write_authorities(&public_in(dir.path()), &[authority.public()]).unwrap();
        write_cert(&cert_in(dir.path()), &cert, "2030-01-01").unwrap();
        let files = load(dir.path()).unwrap();
        assert_eq!((files.authorities, files.cert), (vec![authority.public()], cert));
        assert!(files.identity.is_none());
        let text = std::fs::read_to_string(cert_in(dir.path())).unwrap();
        for damaged in [text.replace("cert ", "cert 0"), text.replace("v1", "v2"), text.replace("\ncert ", "\n")] {
            std::fs::write(cert_in(dir.path()), damaged).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(matches!(&error, MeshFileError::Content { .. }) && error.to_string().contains("mesh.cert"));
        }
        std::fs::write(public_in(dir.path()), AUTHORITY_HEAD).unwrap();
        assert!(matches!(load(dir.path()), Err(MeshFileError::Content { .. })), "nobody to believe");
    }
}
