#include "cluster/model_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

namespace keelback::cluster {

using namespace std::chrono_literals;

ModelCluster::ModelCluster(Options options)
    : options_(std::move(options)), prng_(options_.seed), members_(options_.nodes) {
  database_.flaws = options_.database;
  ledger.lives = [this](const Owner& owner) { return database_.lives(owner); };
  ledger.losses_allowed = !options_.commits_each_call || options_.unsavable > 0;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    members_[i].name = fmt::format("n{}", i);
    start(i);
  }
}

ModelCluster::~ModelCluster() = default;

Duration ModelCluster::draw(Duration least, Duration most) {
  return least + Duration(prng_.below(static_cast<std::uint64_t>((most - least).count()) + 1));
}

// ---- nodes

void ModelCluster::start(std::size_t index) {
  Member& member = members_[index];
  if (member.up) return;
  member.up = true;
  member.draining = false;
  ++member.life;
  member.stood_still = Duration{0};
  member.wakes.reset();
  Config config;
  config.name = member.name;
  config.url = member.name;
  config.digest = "v1";
  config.settings = "settings";
  config.rules.commits_each_call = options_.commits_each_call;
  config.restores_at_once = 2;
  member.node = std::make_unique<Node>(config, prng_.next());
  const std::uint64_t life = member.life;
  ModelPool::Seams seams;
  seams.tell = [this, index, life](Event event) {
    after(0ms, [this, index, life, event = std::move(event)]() mutable {
      post(index, life, std::move(event));
    });
  };
  seams.answer = [this, index](const ClientCall& call, const Heard& heard) {
    auto origin = members_[index].calls.extract(call.number);
    if (!origin.empty()) respond(index, origin.mapped(), heard);
  };
  seams.hand_in_again = [this, index, life](const ClientCall& call) {
    auto origin = members_[index].calls.extract(call.number);
    if (origin.empty()) return;
    after(0ms, [this, index, life, again = origin.mapped()] {
      if (members_[index].up && members_[index].life == life) {
        hand_in(index, again, again.from.has_value());
      }
    });
  };
  seams.next_id = [this] { return ++last_id_; };
  ModelPool::Plan plan{options_.commits_each_call, options_.unsavable, options_.asks_nobody};
  member.pool = std::make_unique<ModelPool>(time_, prng_, ledger, std::move(seams), plan);
  handle(index, Tick{});
}

Time ModelCluster::now_of(const Member& member) const {
  return options_.clock_stops ? time_.now() - member.stood_still : time_.now();
}

void ModelCluster::post(std::size_t index, std::uint64_t life, Event event) {
  Member& member = members_[index];
  if (!member.up || member.life != life) return;
  if (member.pauses > 0) return member.inbox.push_back(std::move(event));
  handle(index, event);
}

void ModelCluster::handle(std::size_t index, const Event& event) {
  Member& member = members_[index];
  Actions out;
  trace(event.index() + 100 * index);
  member.node->handle(now_of(member), event, out);
  member.node->check_invariants();
  for (Action& action : out) member.due.push_back(std::move(action));
  if (!std::exchange(member.performing, true)) {
    while (!member.due.empty()) {
      Action next = std::move(member.due.front());
      member.due.pop_front();
      perform(index, std::move(next));
    }
    member.performing = false;
  }
  wake(index);
}

void ModelCluster::wake(std::size_t index) {
  Member& member = members_[index];
  if (!member.up) return;
  const std::optional<Time> due = member.node->next_deadline();
  if (!due) return;
  const Time when = std::max(*due + (time_.now() - now_of(member)), time_.now());
  if (member.wakes && *member.wakes <= when) return;
  member.wakes = when;
  after(when - time_.now(), [this, index, life = member.life, when] {
    Member& late = members_[index];
    if (!late.up || late.life != life || late.wakes != when) return;
    late.wakes.reset();
    post(index, life, Tick{});
  });
}

void ModelCluster::perform(std::size_t index, Action&& action) {
  Member& member = members_[index];
  trace(action.index() + 10);
  if (auto* each = std::get_if<Ask>(&action)) return ask(index, std::move(*each));
  if (const auto* each = std::get_if<Adopt>(&action)) return member.pool->adopt(*each);
  if (const auto* each = std::get_if<Settle>(&action)) return member.pool->settle(*each);
  if (const auto* each = std::get_if<Fetched>(&action)) return member.pool->fetched(*each);
  if (const auto* each = std::get_if<ForgetSession>(&action)) return member.pool->forget(*each);
  if (const auto* each = std::get_if<Forward>(&action)) return forward(index, *each);
  if (const auto* each = std::get_if<GiveUpHop>(&action)) return give_up(index, *each);
  if (std::holds_alternative<ObeySettings>(action)) {
    Rules rules;
    rules.commits_each_call = options_.commits_each_call;
    return handle(index, RulesChanged{rules});
  }
  if (const auto* each = std::get_if<Notice>(&action)) {
    if (each->text.find("went back") != std::string::npos) ++went_back_;
    return;
  }
  if (std::holds_alternative<Left>(action)) {
    ++ledger.seen["left"];
    return kill(index);
  }
  // Nothing, if its caller has left and the node does not know that yet.
  const auto take = [&](TicketId ticket) -> std::optional<Origin> {
    auto origin = member.tickets.extract(ticket);
    if (!origin.empty()) return std::move(origin.mapped());
    return std::nullopt;
  };
  if (const auto* each = std::get_if<Admit>(&action)) {
    const std::optional<Origin> taken = take(each->ticket);
    if (!taken) return;
    const Origin& origin = *taken;
    const ClientCall call = origin.call;
    member.calls[call.number] = origin;
    if (each->session.empty()) return member.pool->admit_keyed(call);
    if (member.pool->admit(call, *each)) return;
    member.calls.erase(call.number);
    return hand_in(index, origin, origin.from.has_value());
  }
  if (const auto* each = std::get_if<Replay>(&action)) {
    const std::optional<Origin> taken = take(each->ticket);
    if (!taken) return;
    const Origin& origin = *taken;
    return respond(index, origin,
                   {each->answer.kind, Effect::kDone, {}, std::stoull(each->answer.payload)});
  }
  if (const auto* each = std::get_if<Misdirected>(&action)) {
    const std::optional<Origin> taken = take(each->ticket);
    if (!taken) return;
    const Origin& origin = *taken;
    ++ledger.seen["421"];
    after(draw(1ms, 5ms), [this, origin = origin] { fail_hop(origin, HopEnd::kNotOwner); });
    return;
  }
  if (const auto* each = std::get_if<Refuse>(&action)) {
    const std::optional<Origin> taken = take(each->ticket);
    if (!taken) return;
    const Origin& origin = *taken;
    const bool lost = each->kind == OutcomeKind::kSessionLost;
    if (lost) ledger.told(origin.call.session, member.node->status(time_.now()).self);
    respond(index, origin, {each->kind, each->effect, {}, 0});
  }
}

// ---- the database

void ModelCluster::ask(std::size_t index, Ask&& ask) {
  const std::uint64_t life = members_[index].life;
  auto open = std::make_shared<bool>(true);
  const auto reply = [this, index, life, open, id = ask.ask](Reply what) {
    if (std::exchange(*open, false)) post(index, life, Replied{id, std::move(what)});
  };
  after(ask.patience, [reply] { reply(NoReply{false, "No answer came."}); });
  Duration there = prng_.chance(0.02) ? draw(10ms, 700ms) : draw(200us, 8ms);
  if (prng_.chance(options_.late_requests)) there = draw(2s, 8s);
  const bool loses = prng_.chance(options_.lost_replies);
  const Duration back = draw(200us, 8ms);
  if (members_[index].database_cuts > 0) return;
  after(there, [this, index, reply, loses, back, request = std::move(ask.request)] {
    if (members_[index].database_cuts > 0) return;
    if (stopped_ > 0) return reply(NoReply{true, "The database is not there."});
    Reply what = at_database(request);
    if (loses) return;
    after(back, [this, index, reply, what = std::move(what)] {
      if (members_[index].database_cuts == 0) reply(what);
    });
  });
}

Reply ModelCluster::at_database(const Request& request) {
  Reply reply = database_.perform(time_.now(), request);
  trace(request.index() + 1000);
  if (const auto* claim = std::get_if<Claim>(&request)) {
    const auto& claimed = std::get<Claimed>(reply);
    if (claimed.done) ledger.claimed(*claim, *claimed.row);
  } else if (const auto* commit = std::get_if<Commit>(&request)) {
    if (std::get<Written>(reply).done) ledger.committed(*commit);
  }
  return reply;
}

void ModelCluster::stop_database(Duration length) {
  ++stopped_;
  database_.restart();
  after(length, [this] { --stopped_; });
}

void ModelCluster::go_back() {
  if (!copy_) return;
  ledger.went_back = true;
  database_.go_back(*copy_);
}

// ---- calls

void ModelCluster::submit(ClientCall call, std::size_t index) {
  ledger.submitted(call.number);
  Origin origin;
  origin.call = std::move(call);
  Member& member = members_[index];
  if (!member.up) {
    return ledger.heard(origin.call.number, origin.call.key, origin.call.idempotent,
                        {OutcomeKind::kNotReady, Effect::kNone, {}, 0});
  }
  const TicketId ticket = last_id_ + 1;
  hand_in(index, std::move(origin), false);
  if (!prng_.chance(options_.leavers)) return;
  after(draw(1ms, 3s), [this, index, life = member.life, ticket] { leave(index, life, ticket); });
}

// The caller has run out of patience.
void ModelCluster::leave(std::size_t index, std::uint64_t life, TicketId ticket) {
  Member& member = members_[index];
  if (!member.up || member.life != life) return;
  const auto origin = member.tickets.extract(ticket);
  if (origin.empty()) return;
  const Origin& left = origin.mapped();
  post(index, life, TicketGone{ticket});
  ledger.heard(left.call.number, left.call.key, left.call.idempotent,
               {OutcomeKind::kTimeout, left.sent_to ? Effect::kMaybe : Effect::kNone, {}, 0});
}

void ModelCluster::hand_in(std::size_t index, Origin origin, bool hop) {
  Member& member = members_[index];
  const TicketId ticket = ++last_id_;
  const ClientCall call = origin.call;
  origin.sent_to.reset();
  member.tickets[ticket] = std::move(origin);
  if (call.session.empty()) {
    return post(index, member.life, KeyedCallCame{ticket, call.key, 1, call.idempotent, hop});
  }
  CallCame event;
  event.ticket = ticket;
  event.session = call.session;
  event.hop = hop;
  post(index, member.life, std::move(event));
}

void ModelCluster::forward(std::size_t index, const Forward& action) {
  const auto found = members_[index].tickets.find(action.ticket);
  if (found == members_[index].tickets.end()) return;  // its caller has just left
  const auto to = std::ranges::find(members_, action.url, &Member::name) - members_.begin();
  found->second.sent_to = static_cast<std::size_t>(to);
  Origin hop;
  hop.call = found->second.call;
  hop.from = index;
  hop.from_life = members_[index].life;
  hop.from_ticket = action.ticket;
  hop.again = found->second.again;
  ++ledger.seen["hop"];
  arrive(static_cast<std::size_t>(to), members_[static_cast<std::size_t>(to)].life, hop);
}

void ModelCluster::give_up(std::size_t index, const GiveUpHop& action) {
  const auto found = members_[index].tickets.find(action.ticket);
  if (found == members_[index].tickets.end() || !found->second.sent_to) return;
  ++ledger.seen["hop given up"];
  Origin hop;
  hop.from = index;
  hop.from_life = members_[index].life;
  hop.from_ticket = action.ticket;
  after(1ms, [this, hop] { fail_hop(hop, HopEnd::kBroken); });
}

void ModelCluster::arrive(std::size_t index, std::uint64_t life, const Origin& origin) {
  after(draw(500us, 5ms), [this, index, life, origin] {
    const Member& member = members_[index];
    if (!member.up || member.life != life || is_cut(index, *origin.from)) {
      ++ledger.seen["not connected"];
      return fail_hop(origin, HopEnd::kNotConnected);
    }
    hand_in(index, origin, true);
  });
}

void ModelCluster::fail_hop(const Origin& origin, HopEnd end) {
  Member& from = members_[*origin.from];
  if (!from.up || from.life != origin.from_life) return;
  const auto found = from.tickets.find(origin.from_ticket);
  if (found == from.tickets.end()) return;
  if (end == HopEnd::kBroken) ++ledger.seen["hop broke"];
  if (end == HopEnd::kBroken && options_.retries_hops && !found->second.again) {
    found->second.again = true;
    Origin again = origin;
    again.again = true;
    return arrive(*found->second.sent_to, members_[*found->second.sent_to].life, again);
  }
  post(*origin.from, origin.from_life, HopFailed{origin.from_ticket, end, "The network."});
}

void ModelCluster::respond(std::size_t index, const Origin& origin, const Heard& heard) {
  if (!origin.from) {
    return ledger.heard(origin.call.number, origin.call.key, origin.call.idempotent, heard);
  }
  const bool breaks = prng_.chance(options_.broken_hops);
  after(draw(500us, 5ms), [this, index, origin, heard, breaks] {
    if (breaks || is_cut(index, *origin.from)) return fail_hop(origin, HopEnd::kBroken);
    Member& from = members_[*origin.from];
    if (!from.up || from.life != origin.from_life) return;
    auto waits = from.tickets.extract(origin.from_ticket);
    if (waits.empty()) return;
    post(*origin.from, origin.from_life, TicketGone{origin.from_ticket});
    ledger.heard(origin.call.number, origin.call.key, origin.call.idempotent, heard);
  });
}

void ModelCluster::call() {
  ClientCall call;
  call.number = ++last_id_;
  call.session = fmt::format("s{}", prng_.below(options_.sessions));
  submit(call, prng_.below(members_.size()));
}

void ModelCluster::keyed_call() {
  ClientCall call;
  call.number = ++last_id_;
  if (keys_.empty() || prng_.chance(0.5)) keys_.push_back(fmt::format("k{}", call.number));
  call.key = keys_[keys_.size() - 1 - prng_.below(std::min<std::size_t>(keys_.size(), 4))];
  call.idempotent = call.key.back() % 2 == 0;
  submit(call, prng_.below(members_.size()));
}

// ---- faults

void ModelCluster::kill(std::size_t index) {
  Member& member = members_[index];
  if (!member.up) return;
  member.up = false;
  member.inbox.clear();
  member.due.clear();
  const std::vector<ClientCall> had = member.pool->kill();
  std::vector<Origin> broken;
  for (auto& [ticket, origin] : std::exchange(member.tickets, {})) broken.push_back(origin);
  for (auto& [number, origin] : std::exchange(member.calls, {})) broken.push_back(origin);
  for (const Origin& origin : broken) {
    if (origin.from) {
      after(1ms, [this, origin] { fail_hop(origin, HopEnd::kBroken); });
    } else {
      ledger.heard(origin.call.number, origin.call.key, origin.call.idempotent,
                   {OutcomeKind::kWorkerDied, Effect::kMaybe, {}, 0});
    }
  }
}

void ModelCluster::pause(std::size_t index, Duration length) {
  Member& member = members_[index];
  if (!member.up || member.pauses > 0) return;
  ++member.pauses;
  after(length, [this, index, length] {
    Member& late = members_[index];
    --late.pauses;
    late.stood_still += length;
    for (const Event& event : std::exchange(late.inbox, {})) post(index, late.life, event);
  });
}

void ModelCluster::cut_database(std::size_t index, Duration length) {
  ++members_[index].database_cuts;
  after(length, [this, index] { --members_[index].database_cuts; });
}

void ModelCluster::cut_peers(std::size_t a, std::size_t b, Duration length) {
  if (a == b) return;
  ++members_[a].peer_cuts[b];
  ++members_[b].peer_cuts[a];
  after(length, [this, a, b] {
    --members_[a].peer_cuts[b];
    --members_[b].peer_cuts[a];
  });
}

bool ModelCluster::is_cut(std::size_t a, std::size_t b) const {
  const auto found = members_[a].peer_cuts.find(b);
  return found != members_[a].peer_cuts.end() && found->second > 0;
}

void ModelCluster::drain(std::size_t index) {
  Member& member = members_[index];
  if (!member.up || member.pauses > 0 || std::exchange(member.draining, true)) return;
  handle(index, DrainRequested{});
  member.pool->drain();
  after(draw(5s, 8s), [this, index, life = member.life] {  // it has waited long enough
    if (members_[index].up && members_[index].life == life) kill(index);
  });
  after(9s, [this, index] { start(index); });
}

void ModelCluster::fault() {
  const std::size_t index = prng_.below(members_.size());
  const Duration length = prng_.chance(0.5) ? draw(50ms, 1s) : draw(1s, 8s);
  switch (prng_.below(10)) {
    case 0:
      kill(index);
      return after(length, [this, index] { start(index); });
    case 1:
    case 2:
      return pause(index, length);
    case 3:
    case 4:
      return cut_database(index, length);
    case 5:
      return cut_peers(index, prng_.below(members_.size()), length);
    case 6:
      return stop_database(prng_.chance(0.5) ? Duration(1ms) : length);
    case 7:
    case 8:
      if (members_[index].up && members_[index].pauses == 0) members_[index].pool->kill_a_worker();
      return;
    default:
      return drain(index);
  }
}

// ---- the run

void ModelCluster::load() {
  if (!loaded_) return;
  if (prng_.chance(0.75)) {
    call();
  } else {
    keyed_call();
  }
  after(draw(1ms, 80ms), [this] { load(); });
}

void ModelCluster::trouble(Duration length) {
  if (!std::exchange(loaded_, true)) load();
  const Time end = time_.now() + length;
  while (time_.now() < end) {
    run(draw(50ms, 900ms));
    fault();
  }
}

void ModelCluster::heal(Duration length) {
  run(10s);  // the last faults are over
  for (std::size_t i = 0; i < members_.size(); ++i) start(i);
  run(length);
  loaded_ = false;
  run(8s);
  options_.lost_replies = options_.late_requests = options_.broken_hops = 0;
  options_.leavers = 0;
  run(10s);
  for (std::size_t session = 0; session < options_.sessions; ++session) {
    for (int round = 0; round < 2; ++round) {
      for (std::size_t node = 0; node < members_.size(); ++node) {
        ClientCall call;
        call.number = ++last_id_;
        call.session = fmt::format("s{}", session);
        submit(call, node);
        // Functions take up to 5 s, and one of the round before may still run.
        for (int i = 0; i < 120 && ledger.is_open(call.number); ++i) run(100ms);
        if (round == 0) continue;  // it may have been lost, which is told once
        if (ledger.is_open(call.number) || ledger.last_heard != "ok done") {
          ledger.wrongs.push_back(
              fmt::format("stuck: session s{} at node {}: {}", session, node, ledger.last_heard));
        }
      }
    }
  }
  ledger.finish();
}

}  // namespace keelback::cluster
