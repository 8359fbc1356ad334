//! Exit codes: what scripts may rely on.

/// How a run of the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All went well.
    Done = 0,
    /// It failed for a reason of its own: a taken port, an unreadable or mismatched key, a full disk.
    Failed = 1,
    /// The arguments or settings make no sense.
    Usage = 2,
    /// The server could not be reached or is not trusted.
    Unreachable = 3,
    /// The server or the room refused: wrong room or password, ban, name taken, kicked.
    Refused = 4,
    /// No such file or public room.
    NotFound = 5,
    /// The peer refused: busy, not shared.
    PeerRefused = 6,
    /// What came is not what it should be.
    Verification = 7,
    /// Stopped by the user.
    Interrupted = 130,
}

impl ExitCode {
    /// The exit code of a number; what is none of ours is a failure.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::Unreachable,
            4 => Self::Refused,
            5 => Self::NotFound,
            6 => Self::PeerRefused,
            7 => Self::Verification,
            130 => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// The stable word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::PeerRefused => "peer_refused",
            Self::Verification => "unverified",
            Self::Interrupted => "interrupted",
        }
    }

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}
