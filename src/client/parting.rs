//! What ends when somebody is put out of a room: the transfers between them and those who are in it, at both sides.
//!
//! A transfer belongs to two people, not to a room. Who was put out of one room is parted from everybody in it, even where they meet in another
//! one; there a file may be asked for anew.

use super::core::Core;
use super::download::Again;
use super::effects::FilesCommand;
use super::event::{self, Event};
use super::problem::{FAILED, Problem};
use crate::wire::id::{Id, RoomId};
use crate::wire::name::FullName;

impl Core {
    /// We were put out of a room: nothing runs any more with those who are in it.
    pub(super) fn part_from_all(&mut self, room: RoomId) {
        let members = self.conversations.get(&room).into_iter().flat_map(|c| c.room.members());
        let names: Vec<FullName> = members.map(|member| member.name.clone()).collect();
        names.iter().filter(|name| self.me() != Some(*name)).cloned().collect::<Vec<_>>().iter().for_each(|name| {
            self.part_from(name);
        });
    }

    /// Ends all transfers and offers between us and somebody.
    pub(super) fn part_from(&mut self, peer: &FullName) {
        let problem = || Problem::new("kicked", FAILED, format!("{peer} and you were parted: one of you was put out"));
        let sources = self.transfers.sources.iter().filter(|(_, source)| source.peer == *peer);
        for id in sources.map(|(id, _)| *id).collect::<Vec<Id>>() {
            self.tell_files(FilesCommand::Drop { transfer: id, reason: "kicked".into() });
            self.source_ended(&id, problem(), Again::Never);
        }
        let downloads = self.transfers.downloads.keys().copied();
        for id in downloads.collect::<Vec<Id>>() {
            if self.transfers.downloads.get_mut(&id).is_some_and(|download| download.is_gone(peer, problem())) {
                self.advance(&id);
            }
        }
        let uploads = self.transfers.uploads.iter().filter(|(_, upload)| upload.peer == *peer);
        for id in uploads.map(|(id, _)| *id).collect::<Vec<Id>>() {
            self.tell_files(FilesCommand::Cancel { transfer: id, reason: "kicked".into(), keep: true });
            let Some(upload) = self.forget_upload(&id) else { continue };
            self.refuse_unless_running(&id, &upload);
            let reason = Some("kicked".to_owned());
            let told = event::Transfer { reason, bytes: Some(upload.bytes), ..upload.told(&id) };
            self.tell(self.upload_ticket(&upload), Event::TransferFailed(told));
        }
        self.part_offers(peer);
    }
}
