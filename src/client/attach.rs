//! Our sessions: one at the server that the link leads to, and through it one at each other server where we have business.

use super::core::Core;
use super::effects::{Effect, LinkInfo};
use super::problem::Problem;
use super::requests::{Purpose, Requests};
use crate::crypto::identity::PublicKey;
use crate::group::KeyPackages;
use crate::limits::{FRAME_MAX, KEEPALIVE, LOGIN_DEADLINE, REQUEST_DEADLINE};
use crate::wire::frame::{Away, Code, Login, Refusal, Request, ToClient, ToServer, VERSION, Welcome};
use crate::wire::id::RoomId;
use crate::wire::name::Name;
use crate::wire::vouch::Pass;
use std::collections::BTreeSet;
use std::time::Duration;

/// A link that stands, and the server that it leads to.
pub(super) struct Link {
    pub server: Name,
    pub key: PublicKey,
    /// It is in a mesh.
    meshed: bool,
}

impl Link {
    pub fn new(info: &LinkInfo) -> Self {
        Self { server: info.server.clone(), key: info.server_key, meshed: info.welcome.mesh.is_some() }
    }
}

/// What we have with one server.
#[derive(Default)]
pub(super) struct Attachment {
    state: State,
    pub requests: Requests,
    /// When it was last heard, or the login was sent.
    heard: Duration,
    /// The key packages that we have published there.
    pub stock: Option<KeyPackages>,
    /// The stock before: a Welcome made with it may still be on its way.
    pub old_stock: Option<KeyPackages>,
    /// There is business with it; else it is left after a while.
    wanted: bool,
    idle_since: Duration,
    tries: u32,
    /// When a session is tried next.
    again_at: Duration,
    /// That its rooms are away was told.
    told_away: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Down,
    LoggingIn,
    Up,
}

impl Core {
    /// Whether requests to this server get through now.
    pub(super) fn is_up(&self, server: &Name) -> bool {
        self.attachments.get(server).is_some_and(|a| a.state == State::Up)
    }

    /// Whether a session there is on its way, as far as is known.
    pub(super) fn is_coming(&self, server: &Name) -> bool {
        let tried = self.attachments.get(server).is_some_and(|a| a.told_away);
        !self.is_up(server) && !tried && self.servers.is_listed(server)
    }

    /// Whether what is said there waits until it, or any link, is back.
    pub(super) fn is_away(&self, server: &Name) -> bool {
        let told = self.attachments.get(server).is_some_and(|a| a.told_away);
        !self.is_up(server) && (told || self.link.is_none())
    }

    /// Whether the link leads to this server itself.
    pub(super) fn is_access(&self, server: &Name) -> bool {
        self.link.as_ref().is_some_and(|link| link.server == *server)
    }

    /// Sends a request; false, and nothing done, without a session at that server.
    pub(super) fn request(&mut self, server: &Name, body: Request, purpose: Purpose) -> bool {
        self.request_for(server, body, purpose, REQUEST_DEADLINE)
    }

    pub(super) fn request_for(&mut self, server: &Name, body: Request, purpose: Purpose, within: Duration) -> bool {
        let deadline = self.now + within;
        let Some(attachment) = self.attachments.get_mut(server).filter(|a| a.state == State::Up) else { return false };
        let id = attachment.requests.add(purpose, deadline);
        self.send(server, ToServer::Request { id, body });
        true
    }

    /// To the server of a conversation.
    pub(super) fn room_request(&mut self, id: &RoomId, body: Request, purpose: Purpose) -> bool {
        let Some(server) = self.conversations.get(id).map(|c| c.server.clone()) else { return false };
        self.request(&server, body, purpose)
    }

    pub(super) fn send(&mut self, server: &Name, frame: ToServer) {
        let frame = if self.is_access(server) {
            frame
        } else {
            ToServer::At { server: server.clone(), frame: frame.to_bytes().into() }
        };
        self.effect(Effect::Send(frame));
    }

    /// A room is gone, and what was asked about it no longer matters.
    pub(super) fn drop_posts(&mut self, room: &RoomId) {
        self.attachments.values_mut().for_each(|a| a.requests.drop_posts(room));
    }

    pub(super) fn frame(&mut self, frame: ToClient) {
        let Some(access) = self.link.as_ref().map(|link| link.server.clone()) else { return };
        let now = self.now;
        let attachment = self.attachments.entry(access.clone()).or_default();
        attachment.heard = now;
        attachment.requests.trust();
        match frame {
            ToClient::From { server, .. } | ToClient::Away { server, .. } if server == access => {}
            ToClient::From { server, frame } => {
                let Some(attachment) = self.attachments.get_mut(&server).filter(|a| a.state != State::Down) else {
                    return;
                };
                attachment.heard = now;
                attachment.requests.trust();
                match ToClient::from_bytes(&frame, FRAME_MAX) {
                    Ok(frame) => self.heard(&server, frame),
                    Err(_) => self.hang_up(&server),
                }
            }
            ToClient::Away { server, why } => self.away(&server, why),
            frame => self.heard(&access, frame),
        }
    }

    fn heard(&mut self, server: &Name, frame: ToClient) {
        let Some(attachment) = self.attachments.get_mut(server) else { return };
        match (frame, attachment.state) {
            (ToClient::Reply { id, body }, State::Up) => {
                if let Some(purpose) = attachment.requests.take(id) {
                    self.reply(server, purpose, body);
                }
            }
            (ToClient::Push(push), State::Up) => self.push(server, push),
            (ToClient::Welcome(welcome), State::LoggingIn) => self.welcomed(server, &welcome),
            (ToClient::Refused(refusal), State::LoggingIn) => self.login_refused(server, refusal),
            // The driver has dealt with these before the link stood, and none carries another.
            _ => {}
        }
    }

    fn welcomed(&mut self, server: &Name, welcome: &Welcome) {
        if self.home.as_ref().is_some_and(|home| home.server == *server) {
            self.heard_from_home(welcome);
        }
        self.attached(server);
    }

    /// A session stands: what waited for it goes on.
    pub(super) fn attached(&mut self, server: &Name) {
        let now = self.now;
        let attachment = self.attachments.entry(server.clone()).or_default();
        (attachment.state, attachment.heard, attachment.tries) = (State::Up, now, 0);
        (attachment.wanted, attachment.idle_since) = (true, now);
        let was_away = std::mem::take(&mut attachment.told_away);
        if was_away {
            self.tell_rooms(server, false);
        }
        self.publish_key_packages(server);
        self.resume_rooms(server);
        self.resume_entries(server);
        self.resume_surveys(server);
        self.take_key_packages();
        self.resume_relays(server);
        self.resume_downloads();
    }

    fn login_refused(&mut self, server: &Name, refusal: Refusal) {
        let known = self.attachments.get(server).is_some_and(|attachment| attachment.told_away);
        if !known && matches!(refusal.code, Code::Banned | Code::NotListed) {
            self.tell(None, Problem::from(refusal.clone()).event());
        }
        self.fail_entries(server, &refusal.into());
        self.put_off(server, REFUSED_PAUSE);
    }

    fn away(&mut self, server: &Name, why: Away) {
        let pause = match why {
            Away::Refused => REFUSED_PAUSE,
            Away::Unreachable | Away::Reset | Away::Closed => self.pause(server),
        };
        if self.attachments.get(server).is_some_and(|a| a.state != State::Down) {
            self.put_off(server, pause);
        }
    }

    fn pause(&self, server: &Name) -> Duration {
        let tries = self.attachments.get(server).map_or(0, |a| a.tries);
        FIRST_PAUSE.saturating_mul(1 << tries.min(5)).min(LAST_PAUSE)
    }

    /// Its session is of no use; a new one is tried later.
    fn hang_up(&mut self, server: &Name) {
        self.send(server, ToServer::Goodbye);
        let pause = self.pause(server);
        self.put_off(server, pause);
    }

    /// Another process of ours may have taken the session over.
    pub(super) fn closed_by(&mut self, server: &Name) {
        self.put_off(server, REFUSED_PAUSE);
    }

    fn put_off(&mut self, server: &Name, pause: Duration) {
        let again_at = self.now + pause;
        if let Some(attachment) = self.attachments.get_mut(server) {
            attachment.again_at = again_at;
            attachment.tries = attachment.tries.saturating_add(1);
        }
        self.detach(server);
        self.mark_away(server);
        self.take_key_packages();
    }

    fn detach(&mut self, server: &Name) {
        let Some(attachment) = self.attachments.get_mut(server) else { return };
        attachment.state = State::Down;
        for purpose in attachment.requests.take_all() {
            self.unanswered(server, purpose);
        }
        self.conversations.values_mut().filter(|c| c.server == *server).for_each(|c| c.outbox.ground());
    }

    /// The link is gone, and with it all that went through it.
    pub(super) fn detach_all(&mut self) {
        self.servers.unlisted();
        let servers: Vec<Name> = self.attachments.keys().cloned().collect();
        for server in servers {
            self.detach(&server);
            if let Some(attachment) = self.attachments.get_mut(&server) {
                (attachment.tries, attachment.again_at) = (0, Duration::ZERO);
            }
        }
    }

    /// Tells once that the rooms of a server wait for it.
    fn mark_away(&mut self, server: &Name) {
        let Some(attachment) = self.attachments.get_mut(server) else { return };
        if !std::mem::replace(&mut attachment.told_away, true) {
            self.tell_rooms(server, true);
            self.go_another_way(server);
            self.hold_lines(server);
        }
    }

    /// Whether there is business with a server.
    fn business(&self) -> BTreeSet<Name> {
        let mut servers: BTreeSet<Name> = self.home.iter().map(|home| home.server.clone()).collect();
        servers.extend(self.conversations.values().map(|c| c.server.clone()));
        servers.extend(self.entries.values().map(|entry| entry.name.server.clone()));
        servers.extend(self.peers.awaited().map(|peer| peer.server.clone()));
        servers.extend(self.surveys.values().flat_map(|survey| survey.waiting()).cloned());
        servers
    }

    /// Sessions at all servers with which there is business and that the link's server reaches. Whether something failed because there is
    /// no way to its server.
    pub(super) fn attach_wanted(&mut self) -> bool {
        let Some(link) = &self.link else { return false };
        let (access, meshed) = (link.server.clone(), link.meshed);
        let business = self.business();
        let now = self.now;
        for (server, attachment) in &mut self.attachments {
            let wanted = business.contains(server) || *server == access;
            if attachment.wanted && !wanted {
                attachment.idle_since = now;
            }
            attachment.wanted = wanted;
        }
        self.attachments.retain(|_, a| a.wanted || a.state != State::Down);
        if meshed && self.servers.listed().is_none() {
            return false;
        }
        let mut failed = false;
        for server in business.into_iter().filter(|server| *server != access) {
            if self.servers.is_listed(&server) {
                self.log_in_at(&server);
            } else {
                failed |= self.out_of_reach(&server);
            }
        }
        failed
    }

    fn out_of_reach(&mut self, server: &Name) -> bool {
        self.attachments.entry(server.clone()).or_default().wanted = true;
        if !self.is_up(server) {
            self.mark_away(server);
        }
        self.fail_unreachable(server)
    }

    fn log_in_at(&mut self, server: &Name) {
        let now = self.now;
        let attachment = self.attachments.entry(server.clone()).or_default();
        attachment.wanted = true;
        if attachment.state != State::Down || now < attachment.again_at {
            return;
        }
        let (Some(link), Some(home)) = (&self.link, &self.home) else { return };
        (attachment.state, attachment.heard) = (State::LoggingIn, now);
        let (identity, instance) = (&self.config.identity, self.config.instance);
        let pass = Pass::sign(identity, &link.key, instance, self.wall_ms.saturating_add(PASS_MS));
        let login = Login {
            version: VERSION,
            name: home.me.cert.subject.name.to_string(),
            instance,
            cert: Some(home.me.cert.to_bytes().into()),
            pass: Some(pass.to_bytes().into()),
            token: None,
        };
        self.send(server, ToServer::Login(login));
    }

    /// It came within reach: nothing is waited for.
    pub(super) fn retry_now(&mut self, server: &Name) {
        if let Some(attachment) = self.attachments.get_mut(server) {
            (attachment.tries, attachment.again_at) = (0, Duration::ZERO);
        }
    }

    pub(super) fn attachments_timeout(&self) -> Option<Duration> {
        self.link.as_ref()?;
        let due = self.attachments.iter().filter_map(|(server, attachment)| match attachment.state {
            State::Down if attachment.wanted && self.servers.is_listed(server) => Some(attachment.again_at),
            State::Down => None,
            _ => {
                let doubt = attachment.doubted_at().unwrap_or(Duration::MAX);
                Some(attachment.due().min(attachment.leaves_at().unwrap_or(Duration::MAX)).min(doubt))
            }
        });
        due.chain(self.questions().map(|(_, at, _)| at)).min()
    }

    /// Who is to be asked whether it is still there, when, and within what time it must say something: the link's server, which
    /// may hear us and have nothing to say, sooner, for in a mesh there is another one to go to; and those that are reached through
    /// it, which send no keep-alives.
    fn questions(&self) -> impl Iterator<Item = (&Name, Duration, Duration)> {
        let meshed = self.link.as_ref().is_some_and(|link| link.meshed) || self.transfers.is_busy();
        let open =
            self.attachments.iter().filter(move |(_, a)| meshed && a.state == State::Up && !a.requests.is_doubted());
        open.map(move |(server, a)| {
            let (patience, within) =
                if self.is_access(server) { (PATIENCE, ALIVE_DEADLINE) } else { (KEEPALIVE, REQUEST_DEADLINE) };
            (server, a.heard + patience, within)
        })
    }

    /// Gives why the link itself is to be dropped, if it is.
    pub(super) fn attachments_timeouts(&mut self) -> Option<String> {
        let access = self.link.as_ref()?.server.clone();
        let now = self.now;
        let late = |a: &Attachment| a.state != State::Down && now >= a.due();
        let silent: Vec<Name> =
            self.attachments.iter().filter(|(_, a)| late(a)).map(|(name, _)| name.clone()).collect();
        if silent.contains(&access) {
            return Some("the server does not answer".to_owned());
        }
        let questions = self.questions().filter(|(_, at, _)| now >= *at);
        for (server, within) in questions.map(|(server, _, within)| (server.clone(), within)).collect::<Vec<_>>() {
            self.request_for(&server, Request::Ping, Purpose::Alive, within);
        }
        silent.iter().for_each(|server| self.hang_up(server));
        let doubted = |a: &Attachment| a.doubted_at().is_some_and(|at| now >= at);
        let doubted: Vec<Name> =
            self.attachments.iter().filter(|(_, a)| doubted(a)).map(|(name, _)| name.clone()).collect();
        for server in doubted {
            self.mark_away(&server);
            self.take_key_packages();
        }
        let left = |a: &Attachment| a.state != State::Down && a.leaves_at().is_some_and(|at| now >= at);
        let left: Vec<Name> = self.attachments.iter().filter(|(_, a)| left(a)).map(|(name, _)| name.clone()).collect();
        for server in left {
            self.send(&server, ToServer::Goodbye);
            self.detach(&server);
            self.attachments.remove(&server);
        }
        None
    }
}

impl Attachment {
    /// Until when it must be heard.
    fn due(&self) -> Duration {
        let silence = if self.state == State::LoggingIn { LOGIN_DEADLINE } else { KEEPALIVE * 3 };
        self.requests.next_deadline().unwrap_or(Duration::MAX).min(self.heard + silence)
    }

    /// When a login without an answer is taken for a server that is away, though an answer is still welcome.
    fn doubted_at(&self) -> Option<Duration> {
        (self.state == State::LoggingIn && !self.told_away).then(|| self.heard + DOUBT)
    }

    fn leaves_at(&self) -> Option<Duration> {
        (!self.wanted).then(|| self.idle_since + LINGER)
    }
}

/// A server of a mesh that has said nothing for so long is asked whether it is still there ...
const PATIENCE: Duration = Duration::from_secs(3);
/// ... and must say something by then; a slow line carries the largest commit meanwhile. Together less than ten seconds, for who
/// only listens has no other way to notice that nothing comes any more.
const ALIVE_DEADLINE: Duration = Duration::from_secs(6);
const DOUBT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A server that did not want us is asked again so much later.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A session without business stays for so long.
const LINGER: Duration = Duration::from_secs(60);
/// How long a pass holds, milliseconds: a day, since a link may stand for long before a server is needed.
const PASS_MS: u64 = 24 * 3600 * 1000;
