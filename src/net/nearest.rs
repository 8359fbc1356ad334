//! How far servers are: the time that a TCP connection takes.

use crate::limits::MEASURE_DEADLINE;
use crate::wire::endpoint::Endpoint;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Connects to all at once and says how long each took, in the order of the endpoints; `None` for those that do not answer within
/// [`MEASURE_DEADLINE`]. Nothing is said to any of them.
pub async fn measure(endpoints: Vec<Endpoint>) -> Vec<Option<Duration>> {
    let mut times = vec![None; endpoints.len()];
    let mut tasks = JoinSet::new();
    for (n, endpoint) in endpoints.into_iter().enumerate() {
        tasks.spawn(async move { (n, timeout(MEASURE_DEADLINE, connect(endpoint)).await.ok().flatten()) });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((n, time)) = done
            && let Some(slot) = times.get_mut(n)
        {
            *slot = time;
        }
    }
    times
}

/// The way alone: what the name service takes is not the server's.
async fn connect(endpoint: Endpoint) -> Option<Duration> {
    let address = lookup_host((endpoint.host_text(), endpoint.port)).await.ok()?.next()?;
    let start = Instant::now();
    TcpStream::connect(address).await.ok()?;
    Some(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_listens_has_a_time_and_who_does_not_has_none() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open: Endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let closed = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().to_string().parse().unwrap()
        };
        let times = measure(vec![closed, open]).await;
        assert!(times[0].is_none() && times[1].is_some(), "{times:?}");
    }
}
