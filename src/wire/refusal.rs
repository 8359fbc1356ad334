//! Why a server did not do something: a code for programs, a cause and a way out for people.

/// Why the server did not do something.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Refusal {
    /// For programs.
    #[n(0)]
    pub code: Code,
    /// For people: the cause.
    #[n(1)]
    pub message: String,
    /// The way out: a free name with [`Code::NameTaken`], the epoch with [`Code::Stale`], the first number that is still there with [`Code::Gap`].
    #[n(2)]
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// With a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Why a session at another server is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Away {
    /// No server of this name is in the mesh, or no way leads there.
    #[n(0)]
    Unreachable,
    /// It lost what it knew of us, or we were too slow.
    #[n(1)]
    Reset,
    /// It ended the session itself.
    #[n(2)]
    Closed,
    /// This server is in no mesh, or we have sessions at too many servers.
    #[n(3)]
    Refused,
}

/// Causes of a refusal; [`Code::as_str`] is what JSON shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Code {
    /// Not a message that we know.
    #[n(0)]
    Malformed,
    /// Another protocol version.
    #[n(1)]
    Version,
    /// The name belongs to another key, or looks like one that does.
    #[n(2)]
    NameTaken,
    /// Not a name, or a reserved one.
    #[n(3)]
    BadName,
    /// The key, name or address is banned.
    #[n(4)]
    Banned,
    /// No such room, or the wrong password: which, is not told.
    #[n(5)]
    WrongRoomOrPassword,
    /// Another commit won this epoch; catch up and try again.
    #[n(6)]
    Stale,
    /// The rows asked for are no longer kept; join again.
    #[n(7)]
    Gap,
    /// That person is not connected.
    #[n(8)]
    NotHere,
    /// No such public room.
    #[n(9)]
    NotFound,
    /// The asker is not in that room.
    #[n(10)]
    NotMember,
    /// A queue is full or a limit on attempts was reached; try later.
    #[n(11)]
    TooMany,
    /// Longer than its cap.
    #[n(12)]
    TooLarge,
    /// The allow-list says no.
    #[n(13)]
    NotAllowed,
    /// A room with that label, or one that looks like it, is there already.
    #[n(14)]
    LabelTaken,
    /// The server is stopping.
    #[n(15)]
    Draining,
    /// The server's own fault; its log says more.
    #[n(16)]
    Internal,
    /// A login without a client certificate.
    #[n(17)]
    NoCertificate,
    /// The name certificate that a login shows does not hold.
    #[n(18)]
    BadCertificate,
    /// A login through another server without a pass for that one, or with one that does not hold.
    #[n(19)]
    BadPass,
    /// A moderator has taken the word from the asker.
    #[n(20)]
    Muted,
    /// Nobody joins this room now.
    #[n(21)]
    Locked,
    /// New names are not given now, or only for a token.
    #[n(22)]
    Closed,
    /// Only those on the server's list get in.
    #[n(23)]
    NotListed,
    /// The server's disk takes nothing more.
    #[n(24)]
    DiskFull,
}

impl Code {
    /// The stable word for JSON and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::NameTaken => "name_taken",
            Self::BadName => "bad_name",
            Self::Banned => "banned",
            Self::WrongRoomOrPassword => "wrong_room_or_password",
            Self::Stale => "stale",
            Self::Gap => "gap",
            Self::NotHere => "not_here",
            Self::NotFound => "not_found",
            Self::NotMember => "not_member",
            Self::TooMany => "too_many",
            Self::TooLarge => "too_large",
            Self::NotAllowed => "not_allowed",
            Self::LabelTaken => "label_taken",
            Self::Draining => "draining",
            Self::Internal => "internal",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::BadPass => "bad_pass",
            Self::Muted => "muted",
            Self::Locked => "locked",
            Self::Closed => "registration_closed",
            Self::NotListed => "not_listed",
            Self::DiskFull => "disk_full",
        }
    }
}
