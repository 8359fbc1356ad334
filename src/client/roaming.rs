//! Through which server a client goes into the mesh: those that the user named, and those that its home vouches for.

use crate::crypto::identity::PublicKey;
use crate::wire::endpoint::Endpoint;
use crate::wire::home::HomeCard;
use crate::wire::name::Name;
use std::time::Duration;

/// A way into the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub endpoint: Endpoint,
    /// Who must be there, where the mesh has told of it; else the user's trust decides.
    pub expect: Option<(Name, PublicKey)>,
}

/// The ways there are, the one in use first.
#[derive(Debug)]
pub struct Routes {
    given: Vec<Endpoint>,
    roams: bool,
    order: Vec<Route>,
    /// How many have been tried since one led to a server.
    tried: usize,
}

impl Routes {
    /// What the user named, never empty. Without `roams` nothing else is used, and of these the first that answers for good.
    pub fn new(given: Vec<Endpoint>, roams: bool) -> Self {
        let order = given.iter().map(|endpoint| Route { endpoint: endpoint.clone(), expect: None }).collect();
        Self { given, roams, order, tried: 0 }
    }

    /// The one in use, or to be tried.
    pub fn present(&self) -> Option<&Route> {
        self.order.first()
    }

    /// All of them, for measuring.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.order.iter().map(|route| route.endpoint.clone()).collect()
    }

    /// Whether there is a choice.
    pub fn is_choice(&self) -> bool {
        self.order.len() > 1
    }

    /// Servers of the mesh come in behind those that are there; those that it no longer tells of go.
    pub fn learn(&mut self, card: &HomeCard) {
        if !self.roams {
            return;
        }
        let told = card.servers.iter().flat_map(|server| {
            let expect = (server.name.clone(), PublicKey::from_bytes(*server.key));
            let endpoints = server.endpoints.iter().filter_map(|text| text.parse::<Endpoint>().ok());
            endpoints.map(move |endpoint| Route { endpoint, expect: Some(expect.clone()) })
        });
        let told: Vec<Route> = told.filter(|route| !self.given.contains(&route.endpoint)).collect();
        let present = self.order.first().cloned();
        let stays = |route: &Route| Some(route) == present.as_ref() || route.expect.is_none() || told.contains(route);
        self.order.retain(stays);
        for route in told {
            if self.order.len() < ROUTES_MAX && !self.order.iter().any(|r| r.endpoint == route.endpoint) {
                self.order.push(route);
            }
        }
    }

    /// Brings the closest to the front; who did not answer is last. The one that is there stays unless another is much closer: names,
    /// rooms and people are the same everywhere. Whether the first is another one now.
    pub fn measured(&mut self, times: &[(Endpoint, Option<Duration>)]) -> bool {
        let time = |route: &Route| times.iter().find(|(at, _)| *at == route.endpoint).and_then(|(_, time)| *time);
        let Some(first) = self.order.first().cloned() else { return false };
        let best = self.order.iter().filter_map(time).min();
        let much_closer = |present: Duration| best.is_some_and(|best| best * 2 < present && best + MARGIN < present);
        let stays = time(&first).is_some_and(|present| !much_closer(present));
        self.order.sort_by_key(|route| (!(stays && *route == first), time(route).unwrap_or(Duration::MAX)));
        self.order.first() != Some(&first)
    }

    /// The present one led to a server. Who does not roam stays there.
    pub fn arrived(&mut self) {
        self.tried = 0;
        if !self.roams {
            self.order.truncate(1);
        }
    }

    /// The present one failed: the next is to be tried. False if all have been, and a pause is due.
    pub fn next_one(&mut self) -> bool {
        if !self.order.is_empty() {
            self.order.rotate_left(1);
        }
        self.tried += 1;
        let more = self.tried < self.order.len();
        if !more {
            self.tried = 0;
        }
        more
    }

    /// Whether one that was not tried is left behind the present one.
    pub const fn has_more(&self) -> bool {
        self.tried + 1 < self.order.len()
    }

    /// The present one led to somebody else. False if it is the last.
    pub fn drop_present(&mut self) -> bool {
        if self.order.len() < 2 {
            return false;
        }
        self.order.remove(0);
        true
    }
}

/// Ways that are kept.
const ROUTES_MAX: usize = 64;
/// By less than this nobody moves.
const MARGIN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;
    use crate::wire::cert::NameCert;
    use crate::wire::frame::ServerInfo;
    use crate::wire::name::FullName;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn card(servers: &[(&str, &str)]) -> HomeCard {
        let home = Identity::from_seed(&[1; 32]);
        let cert = NameCert::issue(&home, FullName::new(name("alice"), name("s1")), home.public(), 9);
        let info = |(server, at): &(&str, &str)| ServerInfo {
            name: name(server),
            key: [7; 32].into(),
            vouch: Vec::new().into(),
            endpoints: vec![(*at).to_owned()],
            hops: 0,
            round_trip_us: 0,
        };
        HomeCard { cert, authorities: Vec::new(), servers: servers.iter().map(info).collect(), sharing: None }
    }

    fn order(routes: &Routes) -> Vec<String> {
        routes.endpoints().iter().map(ToString::to_string).collect()
    }

    fn measure<const N: usize>(routes: &mut Routes, times: [u64; N]) -> bool {
        let times = times.map(|n| Some(n).filter(|n| *n > 0).map(Duration::from_millis));
        let times: Vec<_> = routes.endpoints().into_iter().zip(times).collect();
        routes.measured(&times)
    }

    #[test]
    fn the_closest_is_taken_where_it_is_worth_it() {
        let fresh = || {
            let mut routes = Routes::new(vec![endpoint("a:1")], true);
            routes.learn(&card(&[("s2", "b:1"), ("s3", "c:1"), ("s1", "a:1")]));
            routes
        };
        let mut routes = fresh();
        assert!(measure(&mut routes, [80, 30, 9]));
        assert_eq!(order(&routes), ["c:1", "b:1", "a:1"]);
        assert_eq!(routes.present().unwrap().expect.as_ref().unwrap().0, name("s3"));
        let mut routes = fresh();
        assert!(!measure(&mut routes, [4, 1, 2]), "a few milliseconds are no reason");
        assert_eq!(order(&routes), ["a:1", "b:1", "c:1"]);
        let mut routes = fresh();
        assert!(measure(&mut routes, [0, 90, 95]), "who does not answer is last");
        assert_eq!(order(&routes), ["b:1", "c:1", "a:1"]);
    }

    #[test]
    fn each_is_tried_once_before_a_pause() {
        let mut routes = Routes::new(vec![endpoint("a:1")], true);
        routes.learn(&card(&[("s2", "b:1"), ("s3", "c:1")]));
        let mut seen = Vec::new();
        for more in [true, true, false, true] {
            seen.push(routes.present().unwrap().endpoint.to_string());
            assert_eq!(routes.next_one(), more);
        }
        assert_eq!(seen, ["a:1", "b:1", "c:1", "a:1"]);
    }

    #[test]
    fn who_does_not_roam_stays_where_it_was_told() {
        let mut routes = Routes::new(vec![endpoint("a:1")], false);
        routes.learn(&card(&[("s2", "b:1")]));
        assert!(!routes.is_choice() && !routes.next_one());
        assert_eq!(order(&routes), ["a:1"]);
        let mut routes = Routes::new(vec![endpoint("a:1"), endpoint("b:1")], false);
        assert!(routes.next_one());
        routes.arrived();
        assert_eq!(order(&routes), ["b:1"], "the one that answered");
    }

    #[test]
    fn what_the_mesh_no_longer_tells_of_is_forgotten_but_for_the_present_one() {
        let mut routes = Routes::new(vec![endpoint("a:1")], true);
        routes.learn(&card(&[("s2", "b:1"), ("s3", "c:1")]));
        routes.next_one();
        routes.learn(&card(&[("s4", "d:1")]));
        assert_eq!(order(&routes), ["b:1", "a:1", "d:1"]);
    }
}
