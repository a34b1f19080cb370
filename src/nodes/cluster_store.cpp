#include "nodes/cluster_store.h"

#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>

namespace keelback::nodes {
namespace {

// At the end: how long the answers of the database may take. Each request has its own patience.
constexpr auto kCloseMax = std::chrono::seconds(10);

cluster::Answer answer_of(store::Answer&& answer) {
  cluster::Answer kept;
  kept.key = std::move(answer.key);
  kept.fingerprint = answer.fingerprint;
  kept.kind = answer.kind;
  kept.payload = std::move(answer.payload);
  if (!answer.type.empty()) kept.message = answer.type + ": " + answer.message;
  kept.type = std::move(answer.type);
  kept.error = std::move(answer.message);
  kept.traceback = std::move(answer.traceback);
  return kept;
}

}  // namespace

void ClusterStore::attach(ToNode to_node, OnSettled on_settled) {
  to_node_ = std::move(to_node);
  on_settled_ = std::move(on_settled);
}

template <class Work>
void ClusterStore::post(Work work) {
  boost::asio::post(loop_, alive_.guard(std::move(work)));
}

void ClusterStore::give(std::uint64_t birth, const cluster::State& state) {
  given_.insert_or_assign(birth, state);
}

void ClusterStore::forget(std::uint64_t birth) {
  given_.erase(birth);
  forgotten_.insert(birth);
  // Its pool drops it in the same turn of the loop, or has done so.
  post([this, birth] { post([this, birth] { forgotten_.erase(birth); }); });
}

void ClusterStore::commit(cluster::CommitWanted wanted, Done done) {
  if (forgotten_.contains(wanted.birth)) {
    done(false);
    return ended();
  }
  wanted.commit = next_id();
  given_.erase(wanted.birth);
  commits_[wanted.commit] = {wanted.session, wanted.birth, std::move(done)};
  to_node_(std::move(wanted));
}

bool ClusterStore::settle(const cluster::Settle& settle) {
  const auto found = commits_.find(settle.commit);
  if (found == commits_.end()) return false;
  Waiting waiting = std::move(found->second);
  commits_.erase(found);
  on_settled_(waiting.session, waiting.birth, settle);
  waiting.done(settle.how == cluster::Settle::How::kKept);
  ended();
  return true;
}

void ClusterStore::fetched(cluster::Fetched& fetched) {
  const auto found = fetches_.find(fetched.fetch);
  if (found == fetches_.end()) return;
  OnFetched done = std::move(found->second);
  fetches_.erase(found);
  store::Fetched result;
  result.gone = fetched.gone;
  if (fetched.state) {
    result.snapshot = {static_cast<store::Format>(fetched.state->format), fetched.state->bytes};
  }
  done(std::move(result));
  ended();
}

void ClusterStore::ended() {
  const std::lock_guard lock(mutex_);
  if (--open_ == 0) none_open_.notify_all();
}

std::optional<bool> ClusterStore::keep(store::Record record, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    ++open_;
  }
  post([this, record = std::move(record), done = std::move(done)]() mutable {
    cluster::CommitWanted wanted;
    wanted.session = std::move(record.session);
    wanted.birth = record.birth;
    wanted.epoch = record.epoch;
    wanted.state = {static_cast<std::uint8_t>(record.snapshot.format), record.snapshot.state};
    wanted.exposed = !commits_each_call_ && !draining_;
    wanted.answer = answer_of(std::move(record.answer));
    commit(std::move(wanted), std::move(done));
  });
  return std::nullopt;
}

std::optional<bool> ClusterStore::drop(std::string session, std::uint64_t birth, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return true;
    ++open_;
  }
  post([this, session = std::move(session), birth, done = std::move(done)]() mutable {
    cluster::CommitWanted wanted;
    wanted.session = std::move(session);
    wanted.birth = birth;
    wanted.exposed = true;
    commit(std::move(wanted), std::move(done));
  });
  return std::nullopt;
}

std::optional<store::Fetched> ClusterStore::fetch(const std::string& session, std::uint64_t birth,
                                                  std::uint64_t, OnFetched done) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return store::Fetched{};
    ++open_;
  }
  post([this, session, birth, done = std::move(done)]() mutable {
    if (const auto given = given_.find(birth); given != given_.end()) {
      store::Fetched result;
      result.snapshot = {static_cast<store::Format>(given->second.format), given->second.bytes};
      done(std::move(result));
      return ended();
    }
    const cluster::FetchId id = next_id();
    fetches_[id] = std::move(done);
    to_node_(cluster::FetchWanted{id, session, birth});
  });
  return std::nullopt;
}

void ClusterStore::close() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  none_open_.wait_for(lock, kCloseMax, [this] { return open_ == 0; });
}

store::Status ClusterStore::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void ClusterStore::set_status(store::Status status) {
  const std::lock_guard lock(mutex_);
  status_ = std::move(status);
}

}  // namespace keelback::nodes
