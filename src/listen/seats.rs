//! The seats of a listener: how many connections may be open, and which of them make room for others.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Time in which a connection that is closed for another has to be gone.
const LEAVING: Duration = Duration::from_millis(100);

/// What a connection does; decides whether it makes room for one that has a request.
///
/// If one peer address has more connections than the newcomer's (and one more), its oldest connection is closed that is not
/// `Working`. Otherwise the oldest that is `Arriving`, or else the oldest that has been `Idle` for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has not sent a whole request yet.
    Arriving,
    /// Its requests are answered; it may still be reading the answer.
    Idle,
    /// It is sending a request.
    Sending,
    /// Its request is being answered: never closed for another.
    Working,
}

/// The kinds that may be closed, in this order.
const CLOSABLE: [Doing; 3] = [Doing::Arriving, Doing::Idle, Doing::Sending];

/// A peer, as far as fairness counts peers: an IPv4 address, or the /64 network of an IPv6 address, which one host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(u64);

impl Network {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network(u64::from(address.to_bits())),
            // No network of hosts begins with 32 zero bits.
            IpAddr::V6(address) => Network(u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
        }
    }

    /// All clients of a Unix socket.
    pub const LOCAL: Network = Network(0);
}

/// The seats of a listener.
#[derive(Debug)]
pub(crate) struct Seats {
    permits: Arc<Semaphore>,
    count: u32,
    /// Time without a request after which an idle connection makes room.
    idle: Duration,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    /// Connections by kind and age.
    closable: [BTreeMap<u64, Taken>; CLOSABLE.len()],
    /// Connections of each peer.
    of: HashMap<Network, usize>,
}

#[derive(Debug)]
struct Taken {
    since: Instant,
    network: Network,
    leave: Arc<Notify>,
}

impl Seats {
    /// So many seats; an idle connection makes room after `idle`.
    pub fn new(count: usize, idle: Duration) -> Arc<Seats> {
        let count = u32::try_from(count.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Arc::new(Seats { permits: Arc::new(Semaphore::new(count as usize)), count, idle, all: Mutex::default() })
    }

    /// A seat that nobody has.
    pub fn free(self: &Arc<Seats>, network: Network) -> Option<Seat> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(Seat::new(self, permit, network))
    }

    /// A seat that nobody has, or that of a connection that makes room.
    pub async fn take(self: &Arc<Seats>, network: Network) -> Option<Seat> {
        Some(Seat::new(self, self.permit(network).await?, network))
    }

    /// Waits until no connection is left.
    pub async fn empty(&self) {
        // The semaphore is never closed.
        let _all = self.permits.acquire_many(self.count).await;
    }

    async fn permit(&self, network: Network) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Some(permit);
        }
        if !self.make_room(Some(network)) {
            return None;
        }
        tokio::time::timeout(LEAVING, self.permits.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Asks one connection to leave, if there is one that should; see [`Doing`].
    pub fn make_room(&self, newcomer: Option<Network>) -> bool {
        let mut all = self.all();
        let own = newcomer.and_then(|newcomer| all.of.get(&newcomer)).copied().unwrap_or(0);
        let most = all.of.iter().max_by_key(|(_, count)| **count).map(|(network, count)| (*network, *count));
        if let Some((network, count)) = most
            && count > own + 1
            && all.close_first(|taken, _| taken.network == network)
        {
            return true;
        }
        all.close_first(|taken, doing| match doing {
            Doing::Arriving => true,
            Doing::Idle => taken.since.elapsed() >= self.idle,
            Doing::Sending | Doing::Working => false,
        })
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    /// Asks the oldest connection of the first kind to leave that has one for which this holds.
    fn close_first(&mut self, holds: impl Fn(&Taken, Doing) -> bool) -> bool {
        for (kind, doing) in self.closable.iter_mut().zip(CLOSABLE) {
            let found = kind.iter().find(|(_, taken)| holds(taken, doing)).map(|(number, _)| *number);
            if let Some(taken) = found.and_then(|number| kind.remove(&number)) {
                taken.leave.notify_one();
                return true;
            }
        }
        false
    }
}

/// The seat of one connection.
#[derive(Debug)]
pub(crate) struct Seat {
    network: Network,
    leave: Arc<Notify>,
    place: Mutex<Place>,
}

impl Seat {
    fn new(seats: &Arc<Seats>, permit: OwnedSemaphorePermit, network: Network) -> Seat {
        let leave = Arc::new(Notify::new());
        let place = Mutex::new(Place::new(seats, permit, network, &leave));
        Seat { network, leave, place }
    }

    /// States what the connection does from now on.
    pub fn is(&self, doing: Doing) {
        self.place().is(doing, &self.leave);
    }

    /// Whether it is one of these seats.
    pub fn is_in(&self, seats: &Arc<Seats>) -> bool {
        Arc::ptr_eq(&self.place().seats, seats)
    }

    /// Changes to one of these seats, if there is one, and gives the other back.
    pub async fn move_to(&self, seats: &Arc<Seats>) -> bool {
        let Some(permit) = seats.permit(self.network).await else { return false };
        *self.place() = Place::new(seats, permit, self.network, &self.leave);
        true
    }

    /// Resolves when another connection needs the seat, and no request has come in meanwhile.
    pub async fn asked_to_leave(&self) {
        loop {
            self.leave.notified().await;
            if self.place().doing != Doing::Working {
                return;
            }
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which seat it is; gives it back on drop.
#[derive(Debug)]
struct Place {
    seats: Arc<Seats>,
    network: Network,
    doing: Doing,
    /// Kind and number among the connections that may be closed.
    listed: Option<(usize, u64)>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(seats: &Arc<Seats>, permit: OwnedSemaphorePermit, network: Network, leave: &Arc<Notify>) -> Place {
        *seats.all().of.entry(network).or_default() += 1;
        let doing = Doing::Arriving;
        let mut place = Place { seats: seats.clone(), network, doing, listed: None, _permit: permit };
        place.is(doing, leave);
        place
    }

    fn is(&mut self, doing: Doing, leave: &Arc<Notify>) {
        self.doing = doing;
        let mut all = self.seats.all();
        if let Some((kind, number)) = self.listed.take() {
            all.closable[kind].remove(&number);
        }
        let Some(kind) = CLOSABLE.iter().position(|closable| *closable == doing) else { return };
        let number = all.next;
        all.next += 1;
        all.closable[kind].insert(number, Taken { since: Instant::now(), network: self.network, leave: leave.clone() });
        self.listed = Some((kind, number));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.seats.all();
        if let Some((kind, number)) = self.listed.take() {
            all.closable[kind].remove(&number);
        }
        if let Some(count) = all.of.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                all.of.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Network = Network(1);
    const OTHER: Network = Network(2);

    /// Whether it is this connection that was asked to leave, and no other.
    fn leaves(seat: &Seat) -> bool {
        let asked = std::pin::pin!(seat.asked_to_leave());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        asked.poll(&mut context).is_ready()
    }

    fn seats<const N: usize>(idle: Duration, of: [Network; N]) -> (Arc<Seats>, [Seat; N]) {
        let seats = Seats::new(N, idle);
        let taken = of.map(|network| seats.free(network).unwrap());
        assert!(seats.free(ONE).is_none());
        (seats, taken)
    }

    #[tokio::test]
    async fn the_oldest_without_a_request_makes_room_then_who_is_idle_long_enough_and_never_who_works() {
        let (seats, [working, sending, idle, first, second]) = seats(Duration::from_secs(60), [ONE; 5]);
        working.is(Doing::Working);
        sending.is(Doing::Sending);
        idle.is(Doing::Idle);
        assert!(seats.make_room(Some(ONE)) && leaves(&first) && !leaves(&second));
        assert!(seats.make_room(Some(ONE)) && leaves(&second));
        assert!(!seats.make_room(Some(ONE)), "nobody has been idle for a minute, and each is asked once");
        let (seats, [working, idle]) = self::seats(Duration::ZERO, [ONE; 2]);
        working.is(Doing::Working);
        idle.is(Doing::Idle);
        assert!(seats.make_room(Some(ONE)) && leaves(&idle) && !leaves(&working));
        drop(idle);
        assert!(seats.free(ONE).is_some(), "its seat is free");
    }

    #[tokio::test]
    async fn the_peer_with_the_most_connections_makes_room_for_another_peer() {
        let (seats, [other, first, sending, working]) = seats(Duration::from_secs(60), [OTHER, ONE, ONE, ONE]);
        other.is(Doing::Arriving);
        first.is(Doing::Idle);
        sending.is(Doing::Sending);
        working.is(Doing::Working);
        assert!(seats.make_room(Some(OTHER)) && leaves(&first));
        assert!(seats.make_room(Some(OTHER)) && leaves(&sending));
        assert!(!leaves(&working) && !leaves(&other));
    }

    #[tokio::test]
    async fn who_has_a_request_moves_from_the_lobby_to_the_seat_of_who_has_none() {
        let (seats, [silent]) = seats(Duration::from_secs(60), [ONE]);
        let lobby = Seats::new(1, Duration::ZERO);
        let guest = lobby.take(OTHER).await.unwrap();
        let leaving = tokio::spawn(async move { silent.asked_to_leave().await });
        assert!(!guest.is_in(&seats) && guest.move_to(&seats).await && guest.is_in(&seats));
        leaving.await.unwrap();
        assert!(lobby.free(ONE).is_some(), "the lobby has its place back");
        guest.is(Doing::Working);
        let late = lobby.take(OTHER).await.unwrap();
        assert!(!late.move_to(&seats).await, "the seat is in use");
    }

    #[test]
    fn hosts_of_one_ipv6_network_count_as_one_peer() {
        let of = |address: &str| Network::of(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
