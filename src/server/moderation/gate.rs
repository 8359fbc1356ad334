//! Not written yet.

use super::super::core::Core;
use super::{Officer, Told};
use crate::wire::admin::{Answer, Ask, Failure};

impl Core {
    pub(super) fn gate_ask(&mut self, _officer: &Officer, ask: &Ask) -> Told {
        Err(Answer::failed(Failure::Failed, format!("{ask:?} is not understood")))
    }
}
