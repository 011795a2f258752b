//! The share of each user in a Unix socket: no user takes all places of the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The users that are connected.
pub(super) struct UserShares {
    /// The most connections of one user.
    connected: usize,
    /// How many of them are served at once.
    served: usize,
    users: Mutex<BTreeMap<Option<u32>, UserShare>>,
}

struct UserShare {
    connected: usize,
    served: Arc<Semaphore>,
}

/// The place of one connection in its user's share. It is free again when this is dropped, and with
/// the last one the share is gone.
pub(super) struct UserPlace {
    uid: Option<u32>,
    served: Arc<Semaphore>,
    shares: Arc<UserShares>,
}

impl UserShares {
    /// Returns shares of so many connections, of which so many are served at once.
    pub(super) fn new(connected: usize, served: usize) -> Arc<UserShares> {
        Arc::new(UserShares {
            connected,
            served,
            users: Mutex::default(),
        })
    }

    /// Takes a place for a connection of a user; `None` if the user has all of its places.
    pub(super) fn connect(self: &Arc<UserShares>, uid: Option<u32>) -> Option<UserPlace> {
        let mut users = self.users.lock();
        let share = users.entry(uid).or_insert_with(|| UserShare {
            connected: 0,
            served: Arc::new(Semaphore::new(self.served)),
        });
        if share.connected == self.connected {
            return None;
        }
        share.connected += 1;
        Some(UserPlace {
            uid,
            served: Arc::clone(&share.served),
            shares: Arc::clone(self),
        })
    }
}

impl UserPlace {
    /// Returns when this user may be served once more.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.served).acquire_owned().await.ok()
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut users = self.shares.users.lock();
        if let Some(share) = users.get_mut(&self.uid) {
            share.connected -= 1;
            if share.connected == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_user_with_many_connections_leaves_room_for_the_others_and_nothing_stays() {
        let shares = UserShares::new(3, 2);
        let (greedy, other) = (Some(1_000), Some(1_001));
        let mut held: Vec<UserPlace> = (0..10).filter_map(|_| shares.connect(greedy)).collect();
        assert_eq!(held.len(), 3);
        let turns: Vec<_> = held
            .iter()
            .filter_map(|place| place.turn().now_or_never().flatten())
            .collect();
        assert_eq!(turns.len(), 2);
        let place = shares.connect(other).unwrap();
        assert!(place.turn().now_or_never().flatten().is_some());
        // A place that is free again is the same user's.
        drop(turns);
        assert!(held[2].turn().now_or_never().flatten().is_some());
        held.pop();
        held.extend(shares.connect(greedy));
        assert_eq!(held.len(), 3);
        drop((held, place));
        assert!(shares.users.lock().is_empty());
    }
}
