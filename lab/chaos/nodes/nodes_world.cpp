// Several daemons and a PostgreSQL as a world: real nodes of a cluster, called over HTTP as from
// behind a load balancer. Slots and generations are numbered on from node to node and from start to
// start, so that a worker is named as in a pool of one daemon.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "base/settings_schema.h"
#include "chaos/json.h"
#include "chaos/lab.h"
#include "chaos/nodes/clients.h"
#include "chaos/nodes/database_server.h"
#include "chaos/nodes/nodes.h"
#include "chaos/nodes/relay.h"
#include "chaos/words.h"
#include "chaos/world.h"
#include "core/pool.h"
#include "host/install.h"
#include "load/application.h"
#include "load/soon.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr Duration kLookEvery = 20ms;   // at each node
constexpr Duration kLookLimit = 400ms;  // without an answer for so long, a node is away
constexpr Duration kStartLimit = 60s;
constexpr Duration kCensusPatience = 5s;  // for what is on its way out
constexpr Duration kAnswerSlack = 1s;     // beyond the deadline and the ladder
// More than a daemon starts workers in a run.
constexpr std::uint32_t kGenerations = 100'000;

core::WorkerState state_from(std::string_view name) {
  using enum core::WorkerState;
  for (const auto state : {kStarting, kReady, kBusy, kSuspect, kDraining}) {
    if (core::to_string(state) == name) return state;
  }
  return kStarting;
}

// What a node said last.
struct Look {
  Clock::time_point at;  // of its last answer
  bool serves = false;
  std::vector<host::WorkerInfo> workers;
};

// One name, and the daemons that have it one after another.
struct Node {
  std::string name;
  std::uint32_t index = 0;
  std::uint16_t port = 0;
  std::unique_ptr<Relay> to_database, to_peers;
  Child daemon;
  std::atomic<std::uint32_t> start = 0;  // the number of this start, among those of all nodes
  std::mutex mutex;                      // guards `look`
  Look look;
};

class NodesWorld final : public World, public Nodes {
 public:
  explicit NodesWorld(const WorldOptions& options)
      : World(options),
        mark_(fmt::format("KEELBACK_CHAOS_RUN={}-{}", ::getpid(),
                          Clock::now().time_since_epoch().count())) {}
  ~NodesWorld() override { end(); }

  std::expected<void, std::string> start() {
    std::error_code error;
    directory_ = fs::absolute(options_.directory, error).string();
    program_ = host::find_program("keelback");
    if (program_.empty()) return std::unexpected("the program keelback is not installed");
    if (!options_.app.empty()) options_.app = absolute_app(options_.app);
    auto processes = Processes::start(directory_ + "/" + kJournalName);
    if (!processes) return std::unexpected(processes.error());
    processes_ = std::move(*processes);
    before_ = count("before");
    database_ = std::make_unique<DatabaseServer>(*processes_);
    if (auto made = database_->make(); !made) return made;
    if (auto made = make_nodes(); !made) return made;
    std::vector<std::uint16_t> ports;
    for (const auto& node : nodes_) ports.push_back(node->port);
    clients_ = std::make_unique<Clients>(*loop_, ports);
    thread_ = std::thread([this] { loop_->run(); });
    for (const auto& node : nodes_) {
      if (auto spawned = spawn(*node); !spawned) return spawned;
      look_at(*node);
    }
    for (const auto& node : nodes_) {
      if (auto served = until_it_serves(*node); !served) return std::unexpected(served.error());
    }
    return database_->keep_journal();
  }

  // ---- World

  Duration now() override { return Clock::now() - began_; }
  void wait_until(Duration when, bool or_ended) override {
    if (!or_ended) return std::this_thread::sleep_until(began_ + when);
    std::unique_lock lock(mutex_);
    some_.wait_until(lock, began_ + when, [this] { return !answered_.empty(); });
  }

  std::uint64_t submit(Call call, std::uint64_t index) override {
    const Duration limit = call.deadline.value_or(options_.settings.calls.deadline) +
                           options_.settings.calls.grace + kAnswerSlack;
    Asked asked{.index = index};
    // Of these two no call is like another.
    if (call.function == function_of("echo") || call.function == function_of("chain")) {
      asked.key = first_of(call.payload);
    }
    clients_->call(std::move(call), order(index), limit,
                   [this, asked = std::move(asked)](Clients::Answer&& answer) mutable {
                     const std::lock_guard lock(mutex_);
                     answered_.push_back({std::move(asked), Clock::now() - began_,
                                          nodes_[answer.node]->start, std::move(answer)});
                     some_.notify_all();
                   });
    return ++submitted_;
  }
  std::uint64_t stream(Call, std::uint64_t) override { return 0; }  // scenario_check.cpp
  bool cancel(std::uint64_t) override { return false; }

  std::vector<Ended> take_ended() override {
    std::vector<Answered> some;
    {
      const std::lock_guard lock(mutex_);
      some = std::exchange(answered_, {});
    }
    std::vector<Ended> out;
    for (Answered& each : some) {
      Outcome& outcome = each.answer.outcome;
      outcome.worker = worker_of(each);
      if (each.answer.broke) {
        outcome.message =
            fmt::format("{}; node {}", outcome.message, nodes_[each.answer.node]->name);
      }
      out.push_back({each.asked.index, each.at, std::move(outcome)});
    }
    return out;
  }

  host::PoolInfo info() override {
    host::PoolInfo info;
    info.store.up = true;
    info.start.mode = "nodes";
    for (const host::WorkerInfo& worker : workers()) {
      const bool serves = this->serves(node_of(worker.worker.slot));
      auto& counts = info.stats.workers;
      using enum core::WorkerState;
      // A node that serves no sessions is not there yet, or not any more.
      (!serves                                           ? counts.starting
       : worker.state == kReady || worker.state == kBusy ? counts.ready
       : worker.state == kSuspect                        ? counts.suspect
       : worker.state == kDraining                       ? counts.draining
                                                         : counts.starting) += 1;
    }
    info.stats.ready = info.stats.workers.ready >= options_.settings.pool.min_ready;
    return info;
  }
  std::vector<host::WorkerInfo> workers() override {
    std::vector<host::WorkerInfo> out;
    for (const auto& node : nodes_) {
      const std::lock_guard lock(node->mutex);
      if (Clock::now() - node->look.at > kLookLimit) continue;
      out.insert(out.end(), node->look.workers.begin(), node->look.workers.end());
    }
    return out;
  }
  std::shared_ptr<const Application> application() override { return nullptr; }
  bool end_session(const std::string&) override { return false; }
  bool recycle(std::uint32_t) override { return false; }
  void reload() override {}
  void configure(const Settings&) override {}

  bool shut_down(Duration limit) override {
    bool ended = true;
    for (const auto& node : nodes_) node->daemon.signal(SIGTERM);
    const Duration most = limit + options_.settings.calls.grace + 10s;
    for (const auto& node : nodes_) ended = node->daemon.wait(most).has_value() && ended;
    read_ledgers();
    auto journal = database_->journal();
    if (journal) commits_ = std::move(*journal);
    commits_known_ = journal.has_value();
    end();
    return ended;
  }

  Evidence send_signal(const std::vector<host::WorkerInfo>&, int, bool) override { return no(); }
  Evidence stop(const host::WorkerInfo&, Duration) override { return no(); }
  Evidence resume(const host::WorkerInfo&) override { return no(); }
  Evidence order_start(const StartOrder&) override { return no(); }
  Evidence lift_start(const std::string&) override { return no(); }
  std::uint64_t obeyed(const std::string&) override { return 0; }
  Processes* processes() override { return processes_.get(); }
  Nodes* nodes() override { return this; }

  std::vector<EffectEvent> effects() override { return effects_; }
  // Not by the number of a call, which each node counts for itself: see the invariants of nodes.
  bool effects_known() const override { return false; }
  bool links_known() const override { return true; }
  std::optional<std::vector<CommitEvent>> commits() override {
    return commits_known_ ? std::optional(commits_) : std::nullopt;
  }
  std::optional<MachineSample> machine() override { return look_at_machine(options_.directory); }
  std::string function_of(const std::string& word) const override {
    return chaos::function_of(word, Backend::kPython);
  }
  Census census(std::string when) override {
    if (when == "before") return before_;
    Census now = count(when);
    load::soon(
        [&] {
          now = count(when);
          return now.processes.size() <= before_.processes.size() &&
                 now.threads <= before_.threads && now.descriptors <= before_.descriptors;
        },
        kCensusPatience, 5ms);
    return now;
  }

  // ---- Nodes

  std::string name_of(std::uint32_t node) const override { return nodes_[node]->name; }
  bool serves(std::uint32_t index) const override {
    Node& node = *nodes_[index];
    const std::lock_guard lock(node.mutex);
    return node.look.serves && Clock::now() - node.look.at <= kLookLimit;
  }
  Evidence kill(std::uint32_t index) override {
    Node& node = *nodes_[index];
    const pid_t pid = node.daemon.pid();
    if (!node.daemon.signal(SIGKILL)) return std::unexpected("there is no daemon");
    const Evidence ended = node.daemon.wait(10s);
    if (!ended) return ended;
    forget(node);
    return fmt::format("node {}: daemon {}: {}", node.name, pid, *ended);
  }
  Evidence drain(std::uint32_t index) override {
    Node& node = *nodes_[index];
    if (!node.daemon.signal(SIGTERM)) return std::unexpected("there is no daemon");
    const Evidence ended = node.daemon.wait(options_.settings.workers.drain_timeout + kStartLimit);
    if (ended) forget(node);
    return ended;
  }
  Evidence start_again(std::uint32_t index) override {
    if (const auto spawned = spawn(*nodes_[index]); !spawned) {
      return std::unexpected(spawned.error());
    }
    return until_it_serves(*nodes_[index]);
  }
  Evidence pause(std::uint32_t index, Duration at_most) override {
    const pid_t pid = nodes_[index]->daemon.pid();
    if (pid == 0) return std::unexpected("there is no daemon");
    return processes_->stop_own(pid, at_most);
  }
  Evidence resume(std::uint32_t index) override {
    return processes_->resume(nodes_[index]->daemon.pid());
  }
  Evidence cut(std::uint32_t index, NodeLink link) override {
    relay(index, link).cut();
    return fmt::format("node {}: no byte passes {}", nodes_[index]->name,
                       link == NodeLink::kDatabase ? "to the database" : "from other nodes");
  }
  Evidence mend(std::uint32_t index, NodeLink link) override {
    const std::uint64_t held = relay(index, link).held();
    relay(index, link).mend();
    return fmt::format("{} bytes had waited", held);
  }
  std::uint64_t held(std::uint32_t index, NodeLink link) override {
    return relay(index, link).held();
  }
  Evidence stop_database() override { return database_->stop(); }
  Evidence start_database() override { return database_->start(); }

 private:
  struct Asked {
    std::uint64_t index = 0;
    std::string
        key;  // the call's first argument, which names it in the ledgers; empty: it does not
  };
  struct Answered {
    Asked asked;
    Duration at{0};
    std::uint32_t start = 0;  // of the node that answered
    Clients::Answer answer;
  };

  static Evidence no() { return std::unexpected("it is no fault of a node"); }

  static std::string absolute_app(const std::string& app) {
    const bool path = app.find('/') != std::string::npos || app.ends_with(".py");
    std::error_code error;
    return path ? fs::absolute(app, error).string() : app;
  }
  // "[17, 2]": "17"; as chaos_probe.py writes it.
  static std::string first_of(const std::string& payload) {
    const Json json = Json::parse(payload, nullptr, false);
    if (!json.is_array() || json.empty()) return "";
    return json[0].is_string() ? json[0].get<std::string>() : json[0].dump();
  }

  std::uint32_t workers_each() const {
    return options_.settings.pool.workers / static_cast<std::uint32_t>(options_.nodes);
  }
  std::uint32_t node_of(std::uint32_t slot) const { return (slot - 1) / workers_each(); }
  WorkerRef named(std::uint32_t node, std::uint32_t start, WorkerRef own) const {
    if (!own) return {};
    return {node * workers_each() + own.slot, start * kGenerations + own.generation};
  }
  Relay& relay(std::uint32_t node, NodeLink link) {
    return link == NodeLink::kDatabase ? *nodes_[node]->to_database : *nodes_[node]->to_peers;
  }

  std::expected<void, std::string> make_nodes() {
    try {
      for (std::uint32_t i = 0; i < options_.nodes; ++i) {
        auto node = std::make_unique<Node>();
        node->name = std::string(1, static_cast<char>('a' + i));
        node->index = i;
        node->port = free_port();
        node->to_database = std::make_unique<Relay>(*loop_, database_->port());
        node->to_peers = std::make_unique<Relay>(*loop_, node->port);
        nodes_.push_back(std::move(node));
      }
    } catch (const boost::system::system_error& error) {
      return std::unexpected(error.code().message());
    }
    return {};
  }

  std::string ledger(std::uint32_t start) const {
    return fmt::format("{}/effects-{}.log", directory_, start);
  }

  std::expected<void, std::string> spawn(Node& node) {
    {
      const std::lock_guard lock(starts_mutex_);
      nodes_of_starts_.push_back(node.index);
      node.start = static_cast<std::uint32_t>(nodes_of_starts_.size());
    }
    std::error_code error;
    fs::remove(ledger(node.start), error);  // of an earlier run in this directory
    const std::string self = fmt::format("127.0.0.1:{}", node.port);
    std::vector<std::string> argv = {
        "/usr/bin/env",
        mark_,
        "KEELBACK_CHAOS_APP=" + options_.app,
        "KEELBACK_CHAOS_LEDGER=" + ledger(node.start),
        "KEELBACK_CLUSTER_STORE=" + database_->url(node.to_database->port(), node.name),
        program_,
        "serve",
        load::lab_application("chaos_probe"),
        "--wait-for-app",
        "--listen",
        self};
    const auto set = [&](std::string_view key, const std::string& value) {
      argv.insert(argv.end(), {"--set", fmt::format("{}={}", key, value)});
    };
    const Settings usual;
    for (const SettingRow& row : settings_schema()) {
      if (row.get(options_.settings) != row.get(usual)) set(row.key, row.get(options_.settings));
    }
    set("pool.backend", "python");
    set("pool.workers", std::to_string(workers_each()));
    set("pool.min_ready", std::to_string(workers_each()));
    set("cluster.node", node.name);
    set("cluster.advertise", fmt::format("http://127.0.0.1:{}", node.to_peers->port()));
    set("cluster.token", "of-the-laboratory");
    return node.daemon.start(*processes_, "node " + node.name, argv,
                             fmt::format("{}/node-{}.log", directory_, node.name));
  }

  Evidence until_it_serves(Node& node) {
    const bool serves = load::soon([&] { return this->serves(node.index); }, kStartLimit, 5ms);
    if (serves) return fmt::format("node {} serves, process {}", node.name, node.daemon.pid());
    return std::unexpected(fmt::format("node {} does not serve: {}", node.name, last_lines(node)));
  }
  std::string last_lines(const Node& node) const {
    const std::string text =
        read_file(fmt::format("{}/node-{}.log", directory_, node.name)).value_or("");
    return text.substr(text.size() - std::min<std::size_t>(text.size(), 500));
  }

  static void forget(Node& node) {
    const std::lock_guard lock(node.mutex);
    node.look = {};
  }

  // Every node in turn is asked first; those that did not say lately that they serve come last.
  std::vector<std::uint32_t> order(std::uint64_t index) const {
    std::vector<std::uint32_t> out;
    for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
      out.push_back(static_cast<std::uint32_t>((index + i) % nodes_.size()));
    }
    std::ranges::stable_partition(out, [this](std::uint32_t node) { return serves(node); });
    return out;
  }

  // ---- looks, on the loop's thread

  void look_at(Node& node) {
    clients_->get(node.index, "/v1/workers", kLookLimit, [this, &node](Clients::Reply&& workers) {
      clients_->get(node.index, "/v1/cluster", kLookLimit,
                    [this, &node, workers = std::move(workers)](Clients::Reply&& cluster) {
                      take_look(node, workers, cluster);
                    });
    });
  }
  void take_look(Node& node, const Clients::Reply& workers, const Clients::Reply& cluster) {
    const Json list = Json::parse(workers.body, nullptr, false);
    const Json state = Json::parse(cluster.body, nullptr, false);
    if (list.is_array() && state.is_object()) {
      Look look{.at = Clock::now(), .serves = state.value("serves_sessions", false)};
      for (const Json& each : list) {
        host::WorkerInfo worker;
        worker.worker =
            named(node.index, node.start, {each.value("slot", 0U), each.value("generation", 0U)});
        worker.pid = each.value("pid", std::int64_t{0});
        worker.state = state_from(each.value("state", ""));
        worker.running.resize(each.value("running", 0U));
        look.workers.push_back(std::move(worker));
      }
      const std::lock_guard lock(node.mutex);
      node.look = std::move(look);
    }
    auto timer = std::make_shared<boost::asio::steady_timer>(*loop_, kLookEvery);
    timer->async_wait([this, &node, timer](const boost::system::error_code& ec) {
      if (!ec) look_at(node);
    });
  }

  // ---- who ran what

  // What the workers wrote, since the last time. A call is found by its first argument: the numbers
  // of calls are those of the node that runs it, and the caller does not know which that is.
  void read_ledgers() {
    for (std::uint32_t start = 1; start <= starts(); ++start) {
      std::ifstream in(ledger(start));
      in.seekg(read_to_[start]);
      for (std::string line; std::getline(in, line);) {
        if (in.eof()) break;  // half a line
        read_to_[start] = in.tellg();
        read_effect(line, start);
      }
    }
  }
  void read_effect(const std::string& line, std::uint32_t start) {
    std::istringstream words(line);
    std::string kind, key;
    EffectEvent effect;
    char dot = 0;
    WorkerRef worker;
    words >> kind >> effect.call >> worker.slot >> dot >> worker.generation >> effect.birth >>
        effect.epoch >> effect.session >> key;
    if (kind != "E" || words.fail()) return;
    if (effect.session == "-") effect.session.clear();
    effect.worker = named(node_of_start(start), start, worker);
    effect.key = key;
    places_[key] = effect.worker;
    // The node's own number of the call means nothing to others.
    effect.call = 0;
    effects_.push_back(std::move(effect));
  }
  std::uint32_t starts() const {
    const std::lock_guard lock(starts_mutex_);
    return static_cast<std::uint32_t>(nodes_of_starts_.size());
  }
  std::uint32_t node_of_start(std::uint32_t start) const {
    const std::lock_guard lock(starts_mutex_);
    return nodes_of_starts_[start - 1];
  }

  WorkerRef worker_of(const Answered& each) {
    const Clients::Answer& answer = each.answer;
    // A connection that broke leads to its node; which worker had the call is not known.
    if (answer.broke) return named(answer.node, each.start, {1, 1});
    if (!answer.outcome.worker) return {};
    read_ledgers();  // every time: the latch test sends calls again
    return place_of(each.asked.key).value_or(named(answer.node, each.start, answer.outcome.worker));
  }
  std::optional<WorkerRef> place_of(const std::string& key) const {
    const auto found = places_.find(key);
    return found == places_.end() ? std::nullopt : std::optional(found->second);
  }

  // ---- the end

  void end() {
    if (loop_) loop_->stop();
    if (thread_.joinable()) thread_.join();
    nodes_.clear();
    database_.reset();
    loop_.reset();  // with what its coroutines hold
  }

  Census count(const std::string& when) const {
    Census out{.when = when, .known = true};
    out.descriptors = os::count_open_fds().value_or(0);
    if (const auto stat = os::read_stat(::getpid())) out.threads = stat->threads;
    std::vector<pid_t> family = os::descendants_of(::getpid());
    for (const pid_t pid : os::all_processes()) {
      const bool known = std::ranges::find(family, pid) != family.end();
      if (!known && os::environment_has(pid, mark_)) family.push_back(pid);
    }
    for (const pid_t pid : family) {
      if (pid != processes_->warden()) out.processes.push_back(fmt::format("pid {}", pid));
    }
    return out;
  }

  const std::string mark_;  // in the environment of every process of the run
  std::string directory_, program_;
  const Clock::time_point began_ = Clock::now();
  std::unique_ptr<Processes> processes_;
  std::unique_ptr<DatabaseServer> database_;
  std::unique_ptr<boost::asio::io_context> loop_ = std::make_unique<boost::asio::io_context>();
  std::vector<std::unique_ptr<Node>> nodes_;
  std::unique_ptr<Clients> clients_;
  std::thread thread_;
  mutable std::mutex starts_mutex_;  // guards nodes_of_starts_
  std::vector<std::uint32_t> nodes_of_starts_;
  std::uint64_t submitted_ = 0;
  Census before_;

  std::mutex mutex_;  // guards answered_
  std::condition_variable some_;
  std::vector<Answered> answered_;

  // The conductor's.
  std::map<std::uint32_t, std::streampos> read_to_;
  std::map<std::string, WorkerRef> places_;  // by key, the last one
  std::vector<EffectEvent> effects_;
  std::vector<CommitEvent> commits_;
  bool commits_known_ = false;
};

}  // namespace

std::expected<std::unique_ptr<World>, std::string> make_nodes_world(const WorldOptions& options) {
  auto world = std::make_unique<NodesWorld>(options);
  if (const auto started = world->start(); !started) return std::unexpected(started.error());
  return world;
}

}  // namespace keelback::chaos
