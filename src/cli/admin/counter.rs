//! Where questions go.

use crate::cli::report::Report;
use crate::wire::admin::{Answer, Ask};

/// A way to a server.
pub trait Counter {
    /// Asks, and waits for the answer within a deadline. A refusal of the server is an answer; an error is that there was none.
    fn ask(&mut self, ask: &Ask) -> Result<Answer, Report>;
}
