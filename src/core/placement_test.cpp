#include "core/placement.h"

#include "core/function_table.h"

#include <gtest/gtest.h>

#include <deque>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

struct PlacementTest : ::testing::Test {
  WorkerTable workers;
  SessionTable sessions{{1h, 1h}, 1};
  Placement placement;
  Function function;
  RunQueue common;
  std::deque<Call> calls;
  std::deque<Lane> lanes;
  int names = 0;

  ~PlacementTest() override {
    common.clear();
    placement.clear();
    workers.each([this](Worker& worker) {
      worker.queue.clear();
      sessions.kill_home(*std::exchange(worker.home, nullptr), nullptr);
    });
  }
  Worker& idle_worker(int bound = 0) {
    workers.resize(static_cast<std::uint32_t>(workers.slots().size()) + 1);
    Worker& worker = workers.make(*workers.slots().back(), Time{});
    worker.home = &sessions.make_home(worker.id, &worker);
    workers.set(worker, Worker::Ready{});
    for (int i = 0; i < bound; ++i) bind(session(), worker);
    placement.admit(worker);
    placement.set_idle(worker);
    return worker;
  }
  Session& session(Affinity mode = Affinity::kStrictQueue) {
    Session& made = sessions.open(Time{}, "s" + std::to_string(++names), mode, 1);
    made.established = true;
    sessions.leave(made, Time{});
    return made;
  }
  void bind(Session& session, Worker& worker) {
    placement.before_change(worker);
    sessions.bind(session, *worker.home);
    placement.after_change(worker);
  }
  Call& head(Session* session = nullptr) {
    Call& call = calls.emplace_back();
    call.function = &function;
    call.session = session;
    call.stamp = calls.size();
    call.state = Call::Head{};
    return call;
  }
};

// Goal: a newcomer goes to the idle worker with the fewest sessions, the warmest among equals.
TEST_F(PlacementTest, NewcomersGoToTheLeastLoadedIdleWorker) {
  Worker& full = idle_worker(3);
  Worker& light = idle_worker(1);
  Worker& warm = idle_worker(1);
  EXPECT_EQ(placement.choose(head(), common), &warm);
  placement.set_busy(warm);
  EXPECT_EQ(placement.choose(head(), common), &light);
  placement.set_busy(light);
  EXPECT_EQ(placement.choose(head(), common), &full);
  placement.set_busy(full);
  EXPECT_EQ(placement.choose(head(), common), nullptr);
}

// Goal: a strict session waits for its home, whoever else is idle.
TEST_F(PlacementTest, AStrictSessionWaitsForItsHome) {
  Worker& home = idle_worker();
  idle_worker();
  Session& ann = session();
  bind(ann, home);
  EXPECT_EQ(placement.choose(head(&ann), common), &home);
  Call& running = head();
  home.running.push_back(running);
  placement.set_busy(home);
  EXPECT_EQ(placement.choose(head(&ann), common), nullptr);
  EXPECT_EQ(Placement::waits_for(head(&ann)), &home);
  home.running.clear();
}

// Goal: a hint session prefers its home and moves when that is busy, unless the call is fenced or
// the home is being killed.
TEST_F(PlacementTest, AHintSessionMovesWhenItsHomeIsBusy) {
  Worker& home = idle_worker();
  Worker& other = idle_worker();
  Session& ann = session(Affinity::kHint);
  bind(ann, home);
  EXPECT_EQ(placement.choose(head(&ann), common), &home);
  Call& running = head();
  home.running.push_back(running);
  placement.set_busy(home);
  EXPECT_EQ(placement.choose(head(&ann), common), &other);
  EXPECT_EQ(Placement::waits_for(head(&ann)), nullptr);
  Call& fenced = head(&ann);
  fenced.traits.fenced = true;
  EXPECT_EQ(placement.choose(fenced, common), nullptr);
  EXPECT_EQ(Placement::waits_for(fenced), &home);
  workers.set(home, Worker::Killed{Time{}, KillCause::kTimeout, WorkerState::kDraining});
  EXPECT_EQ(placement.choose(head(&ann), common), nullptr);
  EXPECT_EQ(Placement::waits_for(head(&ann)), &home);
  home.running.clear();
}

// Goal: a free worker takes the older head; with more than its share of sessions it leaves new
// sessions to others while it has work of its own, but not for long and never idle.
TEST_F(PlacementTest, AFreeWorkerWithMoreThanItsShareServesItsOwnFirst) {
  Worker& crowded = idle_worker(4);
  idle_worker(1);
  Call& newcomer = head(&session());
  newcomer.session->home = nullptr;
  common.insert(newcomer);
  EXPECT_EQ(placement.pick(crowded, common, at(0s)), &newcomer) << "nothing of its own";
  Session& bound = session();
  bind(bound, crowded);
  Call& own = head(&bound);
  crowded.queue.insert(own);
  EXPECT_EQ(placement.pick(crowded, common, at(0s)), &own);
  EXPECT_EQ(placement.pick(crowded, common, at(50ms)), &newcomer) << "patience has an end";
  Worker& fair = idle_worker(1);
  Session& at_fair = session();
  bind(at_fair, fair);
  fair.queue.insert(head(&at_fair));
  EXPECT_EQ(placement.pick(fair, common, at(0s)), &newcomer) << "within its share: the older first";
}

// Goal: a draining worker serves what is bound to it and nothing else.
TEST_F(PlacementTest, ADrainingWorkerServesOnlyItsOwn) {
  Worker& worker = idle_worker();
  placement.withdraw(worker);
  workers.set(worker, Worker::Draining{});
  common.insert(head());
  EXPECT_EQ(placement.pick(worker, common, at(0s)), nullptr);
  EXPECT_EQ(placement.first_idle(), nullptr);
}

}  // namespace
}  // namespace keelback::core
