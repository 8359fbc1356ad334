//! The server's proof of identity over one TLS session: made by the server, checked by the client before it says anything.

use crate::crypto::identity::{Identity, PublicKey, Purpose};
use crate::wire::frame::{Hello, VERSION};
use crate::wire::name::Name;

/// Why a hello proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Another protocol version, the server's.
    #[error("the server speaks version {0} of the protocol, and we version {VERSION}")]
    Version(u32),
    /// Not signed by the key that it names, or not over this session.
    #[error("the server did not prove its identity over this connection")]
    Proof,
}

/// Signs a session's exporter value and the server's name.
pub fn prove(identity: &Identity, server: &Name, exporter: &[u8; 32]) -> Hello {
    let signature = identity.sign(Purpose::ServerAuth, &[exporter, server.as_str().as_bytes()]);
    Hello {
        version: VERSION,
        server: server.clone(),
        key: (*identity.public().as_bytes()).into(),
        signature: signature.into(),
    }
}

/// The key that a hello proves for this session. Whether it is the right key is for the pins to say.
pub fn check(hello: &Hello, exporter: &[u8; 32]) -> Result<PublicKey, HelloError> {
    if hello.version != VERSION {
        return Err(HelloError::Version(hello.version));
    }
    let key = PublicKey::from_bytes(*hello.key);
    key.verify(Purpose::ServerAuth, &[exporter, hello.server.as_str().as_bytes()], &*hello.signature)
        .map_err(|_| HelloError::Proof)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_holds_for_its_session_name_and_key_only() {
        let (server, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let hello = prove(&server, &Name::parse("s1").unwrap(), &[9; 32]);
        assert_eq!(check(&hello, &[9; 32]), Ok(server.public()));
        assert_eq!(check(&hello, &[8; 32]), Err(HelloError::Proof), "carried over to another session");
        let renamed = Hello { server: Name::parse("s2").unwrap(), ..hello.clone() };
        assert_eq!(check(&renamed, &[9; 32]), Err(HelloError::Proof));
        let rekeyed = Hello { key: (*other.public().as_bytes()).into(), ..hello.clone() };
        assert_eq!(check(&rekeyed, &[9; 32]), Err(HelloError::Proof));
        assert_eq!(check(&Hello { version: 9, ..hello }, &[9; 32]), Err(HelloError::Version(9)));
    }
}
