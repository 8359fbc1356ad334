//! A server far away, asked as a user who has a role there: by the client that runs as that user, or over a link of our own while none runs. A
//! second login with the same key would end the client's.

use super::counter::Counter;
use super::person_is_there;
use crate::cli::client::{Reach, data_dir, endpoint, read_invite};
use crate::cli::exit::ExitCode;
use crate::cli::report::Report;
use crate::cli::secrets::PassphraseArgs;
use crate::limits::REQUEST_DEADLINE;
use crate::net::link::{Dial, LinkError, LinkReceiver, connect};
use crate::net::pem;
use crate::net::queue::FrameSender;
use crate::net::trust::{Presented, Trust};
use crate::store::client::ClientStore;
use crate::store::identity;
use crate::wire::admin::{Answer, Ask, Failure};
use crate::wire::frame::{Push, Reply, Request, ToClient, ToServer};
use crate::wire::home::HomeCard;
use crate::wire::id::Id;
use crate::wire::invite::Invite;
use crate::wire::text::shown;
use clap::Args;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Which server far away, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "From afar")]
pub(super) struct RemoteArgs {
    /// Ask this server over TLS; the port is 7443 where none is given
    #[arg(long, value_name = "HOST[:PORT]", global = true, conflicts_with_all = ["invite", "invite_file"])]
    server: Option<String>,
    /// Ask the server of this invite, whose identity stands in it
    #[arg(long, value_name = "URL|-", global = true, conflicts_with = "invite_file")]
    invite: Option<String>,
    /// File that holds an invite
    #[arg(long, value_name = "FILE", global = true)]
    invite_file: Option<PathBuf>,
    /// Your name there, where --client-data does not tell
    // Not called `name`: the commands have arguments of that id, and a global one of the same id would take their place.
    #[arg(long = "name", value_name = "NAME", env = "SECCHAT_NAME", global = true)]
    own_name: Option<String>,
    /// Data directory of your client, with identity and pins
    #[arg(long, value_name = "DIR", env = "SECCHAT_DATA", global = true)]
    client_data: Option<PathBuf>,
    /// Authorities that vouch for servers, PEM
    #[arg(long, value_name = "PEM", env = "SECCHAT_CA", global = true)]
    ca: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl RemoteArgs {
    /// Whether a server far away is meant.
    pub const fn is_wanted(&self) -> bool {
        self.server.is_some() || self.invite.is_some() || self.invite_file.is_some()
    }

    /// The way to it.
    pub fn open(self) -> Result<Box<dyn Counter>, Report> {
        let reach = Reach {
            server: self.server,
            invite: self.invite,
            invite_file: self.invite_file,
            name: self.own_name,
            ca: self.ca,
            passphrase: self.passphrase,
            data: self.client_data,
            ..Reach::default()
        };
        let (data, invite) = (data_dir(&reach)?, read_invite(&reach)?);
        let server = endpoint(&reach, invite.as_ref(), false)?.to_string();
        #[cfg(unix)]
        if let Some(running) = super::super::handover::Running::find(&data, &server) {
            return Ok(Box::new(running));
        }
        Ok(Box::new(Session::open(&reach, invite.as_ref(), &data, &server)?))
    }
}

/// A link of our own.
struct Session {
    runtime: Runtime,
    sender: FrameSender,
    receiver: LinkReceiver,
    asked: u64,
    /// Keeps a client from starting on the directory meanwhile.
    _store: ClientStore,
}

impl Session {
    fn open(reach: &Reach, invite: Option<&Invite>, data: &Path, server: &str) -> Result<Self, Report> {
        if !identity::path_in(data).exists() {
            return Err(Report::new(ExitCode::Usage, format!("there is no identity in {}", data.display()))
                .hint("name the directory of your client with --client-data"));
        }
        let mut store = ClientStore::open(data)?;
        let dial = dial(reach, invite, data, server, &store)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (established, sender, receiver) = runtime.block_on(connect(&dial)).map_err(explained)?;
        store.remember_server(&established.pin)?;
        Ok(Self { runtime, sender, receiver, asked: 0, _store: store })
    }
}

impl Counter for Session {
    fn ask(&mut self, ask: &Ask) -> Result<Answer, Report> {
        self.asked += 1;
        let (id, ask) = (self.asked, serde_json::to_string(ask).map_err(|e| Report::new(ExitCode::Failed, e))?);
        let frame = ToServer::Request { id, body: Request::Admin { ask } };
        let (sender, receiver) = (&self.sender, &mut self.receiver);
        let reply = async {
            send(sender, &frame)?;
            timeout(REQUEST_DEADLINE, reply(id, sender, receiver)).await.map_err(|_| LinkError::Silent)?
        };
        match self.runtime.block_on(reply)? {
            Reply::Admin(text) => serde_json::from_str(&text).map_err(|_| not_understood()),
            Reply::Refused(refusal) => {
                Ok(Answer::Failed { code: Failure::NotAllowed, why: refusal.message, hint: refusal.hint })
            }
            _ => Err(not_understood()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server sees the end of the link, whatever becomes of the word.
        let _ = send(&self.sender, &ToServer::Goodbye);
        self.sender.close();
        self.runtime.block_on(async { timeout(PARTING, self.receiver.finish()).await.ok() });
    }
}

fn send(sender: &FrameSender, frame: &ToServer) -> Result<(), LinkError> {
    sender.send(frame.to_bytes().into()).map_err(|e| LinkError::Broken(e.to_string()))
}

/// The answer to a request; what is pushed meanwhile is for a client.
async fn reply(id: u64, sender: &FrameSender, receiver: &mut LinkReceiver) -> Result<Reply, LinkError> {
    loop {
        match receiver.next().await? {
            Some(ToClient::Reply { id: of, body }) if of == id => return Ok(body),
            Some(ToClient::Push(Push::KeepAlive)) => send(sender, &ToServer::Alive)?,
            Some(ToClient::Push(Push::Bye { reason, detail })) => {
                let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
                return Err(LinkError::Broken(format!("it said {reason}{detail}")));
            }
            Some(_) => {}
            None => return Err(LinkError::Broken("it was closed".into())),
        }
    }
}

fn dial(
    reach: &Reach,
    invite: Option<&Invite>,
    data: &Path,
    server: &str,
    store: &ClientStore,
) -> Result<Dial, Report> {
    let passphrase = reach.passphrase.given()?;
    let identity = identity::load(&identity::path_in(data), passphrase.as_ref())?;
    let (at_address, homes) = (store.server_at(server)?, store.homes()?);
    let here = at_address.as_ref().map(|pin| &pin.server).or(invite.map(|invite| &invite.server));
    let known = homes.iter().find(|card| Some(card.server()) == here).map(|card| card.cert.subject.name.to_string());
    let only = || homes.first().filter(|_| homes.len() == 1).map(|card: &HomeCard| card.cert.subject.name.to_string());
    let name = reach.name.clone().or(known).or_else(only).ok_or_else(|| {
        Report::new(ExitCode::Usage, "it is not known which name you have there").hint("say --name NAME")
    })?;
    let mut instance = Id::default();
    getrandom::fill(&mut instance.0).map_err(|e| Report::new(ExitCode::Failed, e))?;
    let trust = Trust {
        at_address,
        names: store.servers()?,
        within: None,
        invite: invite.map(|invite| (invite.pin, invite.server.clone())),
        ask: person_is_there().then(|| Arc::new(is_right) as _),
    };
    let authority = reach.ca.as_deref().map(pem::load_authorities).transpose()?;
    Ok(Dial {
        endpoint: endpoint(reach, invite, false)?,
        identity,
        name,
        instance,
        authority,
        trust,
        homes,
        token: None,
    })
}

/// A server that was never met is a person's to judge.
fn is_right(presented: &Presented) -> bool {
    let Presented { server, address, key, .. } = presented;
    let (server, address, key) = (shown(server.as_str()), shown(address), key.fingerprint());
    let mut err = io::stderr().lock();
    let asked =
        write!(err, "{server} at {address} was never met before. Its key is\n  {key}\nis that right? [yes/no] ");
    let mut line = String::new();
    asked.and_then(|()| err.flush()).and_then(|()| io::stdin().read_line(&mut line)).is_ok()
        && line.trim().eq_ignore_ascii_case("yes")
}

fn explained(error: LinkError) -> Report {
    let key = match &error {
        LinkError::NotTrusted(presented) => Some(presented.key.fingerprint()),
        _ => None,
    };
    let report = Report::from(error);
    match key {
        Some(key) => report.hint(format!(
            "its identity is {key}; compare that with its operator and use --invite or --ca, or meet it once from a terminal"
        )),
        None => report,
    }
}

fn not_understood() -> Report {
    Report::new(ExitCode::Unreachable, "the server gave an answer that is not understood")
        .hint("is it of another version?")
}

/// For the last word.
const PARTING: Duration = Duration::from_secs(2);
