//! Whatever a sender sends and whenever it is kept: nothing is acknowledged before it is durable, and everything once it is.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn session() -> Session {
    Session::new(WindowLimits { events: 50, bytes: 4000, piece: 1000 })
}

/// The sequences of these frames.
fn sequences(told: &[u8]) -> Vec<u32> {
    let frames = told.chunks_exact(6).map(|frame| {
        assert_eq!(&frame[..2], b"2A");
        u32::from_be_bytes(frame[2..].try_into().unwrap())
    });
    frames.collect()
}

fn event(session: &mut Session, sequence: u32) -> Result<bool, Broken> {
    session.take(Frame::Event { sequence, body: &[b'x'; 60] }, Timestamp(1))
}

proptest! {
    /// Events are numbered on over all windows, so that a sequence says how many there were.
    #[test]
    fn a_sequence_is_told_when_it_is_kept_and_the_end_of_each_window_once(
        sizes in vec(0..20_u32, 0..30),
        steps in vec((0..8_usize, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let mut session = session();
        let (mut sent, mut kept, mut told, mut ends, mut empty) = (0, 0, Vec::new(), Vec::new(), 0_usize);
        let mut left = 0;
        let mut windows = sizes.into_iter();
        let mut steps = steps.into_iter().chain(std::iter::repeat((100, true, true)));
        loop {
            let (events, is_short, is_kept) = steps.next().unwrap();
            let mut is_at_end = false;
            for _ in 0..events {
                if session.is_full() {
                    break;
                }
                if left == 0 {
                    let Some(size) = windows.next() else {
                        is_at_end = true;
                        break;
                    };
                    left = size;
                    prop_assert_eq!(session.take(Frame::Window(size), Timestamp(1)), Ok(size == 0));
                    if size > 0 {
                        ends.push(sent + size);
                    } else {
                        empty += 1;
                    }
                } else {
                    (sent, left) = (sent + 1, left - 1);
                    prop_assert_eq!(event(&mut session, sent), Ok(left == 0));
                }
            }
            prop_assert!(session.size() < 1000 + 200, "{}", session.size());
            if is_kept && let Some(batch) = session.next(is_short) {
                kept += u32::try_from(batch.events.len()).unwrap();
                let now = sequences(&session.kept(&batch.owed));
                prop_assert!(now.iter().all(|sequence| *sequence <= kept), "{now:?} of {kept}");
                // An empty window is acknowledged by 0, in its turn.
                let (zeros, now): (Vec<u32>, Vec<u32>) = now.into_iter().partition(|sequence| *sequence == 0);
                empty -= zeros.len();
                prop_assert!(batch.events.is_empty() || now.last() == Some(&kept));
                told.extend(now);
                let again = sequences(&session.keep_alive());
                prop_assert!(again == [0] || again == [kept]);
            }
            if is_at_end && session.size() == 0 && empty == 0 {
                break;
            }
        }
        prop_assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        prop_assert!(ends.iter().all(|end| told.contains(end)), "{ends:?} of {told:?}");
    }
}

#[test]
fn an_empty_window_is_acknowledged_by_0_after_those_before_it() {
    let mut session = session();
    assert_eq!(session.take(Frame::Window(0), Timestamp(1)), Ok(true));
    let batch = session.next(false).unwrap();
    assert_eq!((batch.events.len(), sequences(&session.kept(&batch.owed))), (0, vec![0]));
    assert_eq!(session.take(Frame::Window(1), Timestamp(1)), Ok(false));
    assert_eq!(event(&mut session, 1), Ok(true));
    assert_eq!(session.take(Frame::Window(0), Timestamp(1)), Ok(true));
    let batch = session.next(false).unwrap();
    assert_eq!((batch.events.len(), sequences(&session.kept(&batch.owed))), (1, vec![1, 0]));
    assert!(session.next(false).is_none());
}

#[test]
fn what_is_not_as_it_should_be_is_said() {
    let mut session = session();
    assert_eq!(event(&mut session, 1), Err(Broken::NoWindow));
    assert_eq!(session.take(Frame::Window(51), Timestamp(1)), Err(Broken::Window(51, 50)));
    assert_eq!(session.take(Frame::Window(2), Timestamp(1)), Ok(false));
    assert_eq!(event(&mut session, 7), Ok(false));
    assert_eq!(session.take(Frame::Window(1), Timestamp(1)), Err(Broken::Unfinished(1)));
    let large = Frame::Event { sequence: 8, body: &[b'x'; 4000] };
    assert_eq!(session.take(large, Timestamp(1)), Err(Broken::Decompressed(4000)));
    assert!(session.next(false).is_none(), "half a window waits for the rest");
    let part = session.next(true).unwrap();
    assert_eq!((part.events.len(), sequences(&session.kept(&part.owed))), (1, vec![7]));
    assert_eq!(sequences(&session.keep_alive()), [7]);
    assert_eq!(event(&mut session, 8), Ok(true));
    let rest = session.next(false).unwrap();
    assert_eq!((rest.events.len(), sequences(&session.kept(&rest.owed))), (1, vec![8]));
    assert_eq!(sequences(&session.keep_alive()), [0]);
}
