//! The present link, and the attempts at the next one. IO.

use super::effects::LinkInfo;
use super::roaming::Routes;
use crate::limits::{RELAY_LINK_BYTES, ROAM_DEADLINE};
use crate::net::link::{self, Dial, Established, LinkError, LinkReceiver};
use crate::net::nearest;
use crate::net::queue::FrameSender;
use crate::net::trust::Trust;
use crate::wire::endpoint::Endpoint;
use crate::wire::frame::{ToClient, ToServer};
use crate::wire::home::HomeCard;
use crate::wire::invite::Host;
use crate::wire::pin::ServerPin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What becomes of a link.
pub(super) enum LinkChange {
    Up(Box<LinkInfo>, Box<ServerPin>, FrameSender),
    Frame(ToClient),
    Down(LinkError),
    /// How far the routes are.
    Measured(Vec<(Endpoint, Option<Duration>)>),
}

/// News of a link, with the number of the attempt that they are of.
pub(super) type News = (u64, LinkChange);

/// The present link and the attempts at the next one.
pub(super) struct Links {
    dial: Dial,
    /// As the user trusts; servers of the mesh are known by their keys instead.
    given: Trust,
    pub routes: Routes,
    /// Our name and its mesh, once we are in it.
    home: Option<HomeCard>,
    news: mpsc::Sender<News>,
    sender: Option<FrameSender>,
    task: Option<JoinHandle<()>>,
    /// Counts attempts, so that news of an earlier one is ignored.
    pub generation: u64,
    tries: u32,
    /// Whether there ever was a link.
    pub ever: bool,
    /// Whether the routes have been measured.
    measured: bool,
}

impl Links {
    pub fn new(dial: Dial, routes: Routes) -> (Self, mpsc::Receiver<News>) {
        let (news, heard) = mpsc::channel(LINK_NEWS);
        let (given, home, sender, task) = (dial.trust.clone(), None, None, None);
        let (generation, tries, ever, measured) = (0, 0, false, false);
        (Self { dial, given, routes, home, news, sender, task, generation, tries, ever, measured }, heard)
    }

    /// Whether there is but one way to begin with, which is to be dialled now; else it is said later how far they are.
    pub fn choose(&mut self) -> bool {
        if !self.routes.is_choice() {
            return true;
        }
        self.task = Some(self.measure());
        false
    }

    fn measure(&mut self) -> JoinHandle<()> {
        self.measured = true;
        let (generation, news, endpoints) = (self.generation, self.news.clone(), self.routes.endpoints());
        tokio::spawn(async move {
            let times = nearest::measure(endpoints.clone()).await;
            let times = endpoints.into_iter().zip(times).collect();
            let _ = news.send((generation, LinkChange::Measured(times))).await;
        })
    }

    /// Our name and its mesh, as they are now.
    pub fn learn(&mut self, card: HomeCard) {
        self.routes.learn(&card);
        self.dial.homes = vec![card.clone()];
        self.home = Some(card);
        if !self.measured && self.routes.is_choice() {
            // It ends by itself.
            drop(self.measure());
        }
    }

    /// Where the present link leads to.
    pub const fn host(&self) -> &Host {
        &self.dial.endpoint.host
    }

    /// Dials the present route. `pin` is what is kept of that address.
    pub fn dial_after(&mut self, pause: Duration, pin: Option<ServerPin>) {
        let Some(route) = self.routes.present().cloned() else { return };
        let told = route.expect.is_some();
        self.generation += 1;
        self.dial.endpoint = route.endpoint;
        self.dial.trust = match route.expect {
            None => Trust { at_address: pin, within: self.home.clone(), ..self.given.clone() },
            Some((name, key)) => Trust {
                at_address: pin.filter(|pin| pin.server == name && pin.key == key),
                names: vec![(name.clone(), key)],
                within: self.home.clone(),
                invite: Some((key.fingerprint(), name)),
                ask: None,
            },
        };
        let mut dial = self.dial.clone();
        if told {
            // The mesh's word on a server's key is better than a certificate authority's.
            dial.authority = None;
        }
        let within = if self.ever && self.routes.is_choice() { ROAM_DEADLINE } else { Duration::MAX };
        let (generation, news) = (self.generation, self.news.clone());
        let dialling = async move {
            tokio::time::sleep(pause).await;
            hold_link(generation, dial, within, news).await;
        };
        self.task = Some(tokio::spawn(dialling));
    }

    /// 50 ms at first, doubled up to 5 s.
    pub fn back_off(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.min(7)).min(LAST_PAUSE);
        self.tries += 1;
        pause
    }

    pub fn up(&mut self, sender: FrameSender) {
        self.ever = true;
        self.tries = 0;
        self.routes.arrived();
        self.sender = Some(sender);
    }

    pub const fn is_up(&self) -> bool {
        self.sender.is_some()
    }

    pub fn send(&self, frame: &ToServer) {
        if let Some(sender) = &self.sender {
            // A full queue or a closed link shows as the end of the link.
            let _ = sender.send(frame.to_bytes().into());
        }
    }

    /// A frame that lets all others pass; where much waits it is dropped.
    pub fn send_behind(&self, frame: &ToServer) {
        if let Some(sender) = &self.sender {
            sender.send_behind(frame.to_bytes().into(), RELAY_LINK_BYTES);
        }
    }

    pub fn drop_link(&mut self) {
        self.generation += 1;
        self.sender = None;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    pub async fn close(&mut self, within: Duration) {
        let (Some(sender), Some(task)) = (self.sender.take(), self.task.take()) else { return };
        let _ = sender.send(ToServer::Goodbye.to_bytes().into());
        sender.close();
        // It ends when all is written and the server has closed its side too.
        let _ = tokio::time::timeout(within, task).await;
    }
}

/// One link, from the dialling to its end.
async fn hold_link(generation: u64, dial: Dial, within: Duration, news: mpsc::Sender<News>) {
    let tell = async |change| news.send((generation, change)).await.is_ok();
    let (established, sender, mut receiver) = match connect(&dial, within).await {
        Ok(parts) => parts,
        Err(error) => {
            tell(LinkChange::Down(error)).await;
            return;
        }
    };
    let info = LinkInfo {
        server: established.server,
        server_key: established.server_key,
        tls: established.tls,
        welcome: established.welcome,
    };
    if !tell(LinkChange::Up(Box::new(info), Box::new(established.pin), sender)).await {
        return;
    }
    let end = loop {
        match receiver.next().await {
            Ok(Some(frame)) => {
                if !tell(LinkChange::Frame(frame)).await {
                    receiver.finish().await;
                    return;
                }
            }
            Ok(None) => break LinkError::Broken("the server closed it".into()),
            Err(error) => break error,
        }
    };
    tell(LinkChange::Down(end)).await;
}

async fn connect(dial: &Dial, within: Duration) -> Result<(Established, FrameSender, LinkReceiver), LinkError> {
    tokio::time::timeout(within, link::connect(dial)).await.unwrap_or(Err(LinkError::Silent))
}

/// Frames that may wait between the link and the core; more wait in the socket, which slows the server down.
const LINK_NEWS: usize = 64;
/// Before the same server is tried again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
