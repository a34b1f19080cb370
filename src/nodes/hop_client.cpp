#include "nodes/hop_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "base/net_names.h"
#include "httptext/multipart.h"
#include "nodes/hop_connection.h"
#include "os/random.h"

namespace keelback::nodes {
namespace {

using std::chrono::steady_clock;

constexpr std::uint32_t kFirstItems = 16;  // as every driver sends unasked

}  // namespace

class HopClient::Impl : public std::enable_shared_from_this<HopClient::Impl> {
 public:
  Impl(boost::asio::io_context& loop, Sender sender, Options options)
      : loop_(loop), sender_(std::move(sender)), options_(options), random_(os::random_text()) {}

  HopId send(const std::string& url, Call call, std::optional<Duration> limit, OnItem on_item,
             OnResult done) {
    const auto hop = add(url, std::move(call), std::move(on_item), std::move(done));
    return begin(hop, limit);
  }
  HopId end_session(const std::string& url, std::string session, Duration limit, OnResult done) {
    const auto hop = add(url, {.session = std::move(session)}, nullptr, std::move(done));
    hop->ends = true;
    return begin(hop, limit);
  }
  void grant(HopId id, std::uint32_t items);
  void cancel(HopId id);
  // From the loop: the caller is in the middle of something.
  void give_up_soon(HopId id, std::string why) {
    boost::asio::post(loop_, [weak = weak_from_this(), id, why = std::move(why)] {
      if (const auto self = weak.lock()) self->give_up(id, why);
    });
  }
  void forget(const std::string& url);
  Use use(const std::string& url) const;
  void close();

 private:
  struct Node;
  // Shared by the table of hops and by what waits in the loop.
  class Hop final : public HopConnection::User {
   public:
    Hop(Impl& owner, HopId number, Node& to) : impl(owner), id(number), node(to) {}
    bool wants_item() override { return credit > 0; }
    void on_item(std::string&& text) override {
      const auto keep = impl.find(id);  // the callback may end this call
      --credit;
      item(std::move(text));
    }
    void on_answer(Answer&& answer) override { impl.on_answer(*this, std::move(answer)); }
    void on_failure(HopFailure failure, std::string why) override {
      impl.on_failure(*this, failure, std::move(why));
    }

    Impl& impl;  // ends its hops before it goes
    const HopId id;
    Node& node;
    std::string name;  // at the node
    Call call;
    steady_clock::time_point begun;
    OnItem item;
    OnResult done;
    std::uint32_t credit = kFirstItems;
    RequestText request;
    std::shared_ptr<HopConnection> connection;  // null: it waits for one
    bool sent = false;
    bool on_used_connection = false;
    bool cancelled = false;
    bool ends = false;  // it ends the call's session
    std::optional<boost::asio::steady_timer> limit;
    std::optional<boost::asio::steady_timer> cancel_again;
  };
  struct Node {
    std::string address;
    NodeUrl url;
    std::vector<std::shared_ptr<HopConnection>> connections;  // all of calls
    std::vector<std::shared_ptr<HopConnection>> idle;         // the one used last is last
    std::deque<HopId> waiting;
  };
  // The request that cancels a hop, on a connection of its own.
  struct Cancel final : HopConnection::User {
    bool wants_item() override { return true; }
    void on_item(std::string&&) override {}
    void on_answer(Answer&&) override { over(); }
    void on_failure(HopFailure, std::string) override { over(); }
    void over() { impl->cancel_is_over(*this); }

    Impl* impl = nullptr;
    HopId hop = 0;
    std::string text;
    std::shared_ptr<HopConnection> connection;
  };

  std::shared_ptr<Hop> find(HopId id) const {
    const auto found = hops_.find(id);
    return found == hops_.end() ? nullptr : found->second;
  }
  std::shared_ptr<Hop> add(const std::string& url, Call call, OnItem on_item, OnResult done);
  HopId begin(const std::shared_ptr<Hop>& hop, std::optional<Duration> limit);
  void serve(Node& node);
  std::shared_ptr<HopConnection> take_idle(Node& node);
  void open_for(Hop& hop);
  void start(Hop& hop);
  void remove(Node& node, const std::shared_ptr<HopConnection>& connection);
  void on_answer(Hop& hop, Answer&& answer);
  void on_failure(Hop& hop, HopFailure failure, std::string why);
  void give_up(HopId id, const std::string& why);
  void end(Hop& hop, HopResult&& result);
  void end_soon(HopId id, HopResult&& result);
  void ask_to_cancel(Hop& hop);
  void cancel_is_over(Cancel& cancel);

  boost::asio::io_context& loop_;
  const Sender sender_;
  const Options options_;
  const std::string random_;
  bool closed_ = false;
  HopId last_id_ = 0;
  std::map<std::string, Node> nodes_;  // by URL
  std::map<HopId, std::shared_ptr<Hop>> hops_;
  std::map<const Cancel*, std::shared_ptr<Cancel>> cancels_;
};

std::shared_ptr<HopClient::Impl::Hop> HopClient::Impl::add(const std::string& url, Call call,
                                                           OnItem on_item, OnResult done) {
  const HopId id = ++last_id_;
  const auto at = nodes_.try_emplace(url).first;
  at->second.address = url;
  const auto hop = std::make_shared<Hop>(*this, id, at->second);
  hops_.emplace(id, hop);
  hop->name = fmt::format("hop.{}.{}", random_, id);
  hop->call = std::move(call);
  hop->begun = steady_clock::now();
  hop->item = std::move(on_item);
  hop->done = std::move(done);
  return hop;
}

HopClient::HopId HopClient::Impl::begin(const std::shared_ptr<Hop>& hop,
                                        std::optional<Duration> limit) {
  const HopId id = hop->id;
  Node& node = hop->node;
  if (node.url.host.empty()) {
    auto parsed = parse_node_url(node.address);
    if (!parsed) {
      end_soon(id, {HopResult::End::kNotConnected, {}, parsed.error()});
      return id;
    }
    node.url = std::move(*parsed);
  }
  if (auto why = !hop->ends ? cannot_travel(hop->call) : std::nullopt) {
    end_soon(id, {HopResult::End::kOutcome,
                  {.kind = OutcomeKind::kBadRequest, .message = std::move(*why)},
                  {}});
    return id;
  }
  if (node.waiting.size() >= options_.waiting_max) {
    end_soon(id, {HopResult::End::kNotConnected,
                  {},
                  fmt::format("{} calls wait for a connection to it", node.waiting.size())});
    return id;
  }
  if (limit) {
    hop->limit.emplace(loop_, *limit);
    hop->limit->async_wait(
        [weak = weak_from_this(), id, limit](const boost::system::error_code& error) {
          const auto self = weak.lock();
          if (error || !self) return;
          const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(*limit);
          self->give_up(id, fmt::format("it has not answered within {} ms", ms.count()));
        });
  }
  node.waiting.push_back(id);
  serve(node);
  return id;
}

// Gives connections to hops that wait.
void HopClient::Impl::serve(Node& node) {
  while (!node.waiting.empty()) {
    const auto hop = find(node.waiting.front());
    if (!hop) {  // it is over already
      node.waiting.pop_front();
      continue;
    }
    if (auto connection = take_idle(node)) {
      node.waiting.pop_front();
      hop->connection = std::move(connection);
      hop->on_used_connection = true;
      start(*hop);
    } else if (node.connections.size() < options_.connections_max) {
      node.waiting.pop_front();
      open_for(*hop);
    } else {
      return;
    }
  }
}

std::shared_ptr<HopConnection> HopClient::Impl::take_idle(Node& node) {
  while (!node.idle.empty()) {
    const auto connection = std::move(node.idle.back());
    node.idle.pop_back();
    if (connection->idle() && connection->looks_alive()) return connection;
    connection->close();
    remove(node, connection);
  }
  return nullptr;
}

void HopClient::Impl::open_for(Hop& hop) {
  Node& node = hop.node;
  const auto connection = std::make_shared<HopConnection>(loop_, options_.reply);
  node.connections.push_back(connection);
  connection->close_when_idle_for(options_.idle_timeout);
  connection->set_on_gone([weak = weak_from_this(), &node, plain = std::weak_ptr(connection)] {
    const auto self = weak.lock();
    const auto gone = plain.lock();
    if (!self || !gone) return;
    self->remove(node, gone);
    self->serve(node);
  });
  hop.connection = connection;
  hop.on_used_connection = false;
  connection->connect(node.url, options_.connect_timeout,
                      [weak = weak_from_this(), id = hop.id](std::optional<std::string> error) {
                        const auto self = weak.lock();
                        const auto waiting = self ? self->find(id) : nullptr;
                        if (!waiting) return;
                        if (!error) return self->start(*waiting);
                        self->on_failure(*waiting, HopFailure::kNotConnected, std::move(*error));
                      });
}

void HopClient::Impl::start(Hop& hop) {
  Call& call = hop.call;
  if (call.deadline) {
    const auto now = steady_clock::now();
    const auto left = *call.deadline - (now - hop.begun);
    if (left < std::chrono::milliseconds(1)) {
      // The connection is idle: others may use it.
      auto connection = std::move(hop.connection);
      hop.node.idle.push_back(std::move(connection));
      Node& node = hop.node;
      end_soon(hop.id, {HopResult::End::kOutcome,
                        {.kind = OutcomeKind::kTimeout,
                         .message = "The deadline passed before the call could be sent to the node "
                                    "that owns its session."},
                        {}});
      return serve(node);
    }
    call.deadline = left;
    hop.begun = now;
  }
  const std::string_view authority = hop.node.url.authority;
  hop.request = hop.ends ? end_request(call.session, authority, sender_)
                         : call_request(call,
                                        {.authority = authority,
                                         .name = hop.name,
                                         .stream = hop.item != nullptr,
                                         .boundary = httptext::form_boundary(os::random_text())},
                                        sender_);
  hop.sent = true;
  hop.connection->exchange(hop, hop.request.head, hop.request.body(call));
}

void HopClient::Impl::remove(Node& node, const std::shared_ptr<HopConnection>& connection) {
  std::erase(node.connections, connection);
  std::erase(node.idle, connection);
}

void HopClient::Impl::on_answer(Hop& hop, Answer&& answer) {
  const auto self = shared_from_this();  // a callback may destroy the client
  Node& node = hop.node;
  const auto connection = std::move(hop.connection);
  if (answer.kind == Answer::Kind::kForeign) connection->close();
  if (connection->idle()) {
    node.idle.push_back(connection);
  } else {
    remove(node, connection);
  }
  HopResult result;
  switch (answer.kind) {
    case Answer::Kind::kOutcome:
      result = {HopResult::End::kOutcome, std::move(answer.outcome), {}};
      break;
    case Answer::Kind::kNotOwner:
      result = {HopResult::End::kNotOwner, {}, "it does not own the session"};
      break;
    case Answer::Kind::kRefused:
      result = {
          HopResult::End::kOutcome,
          {.kind = OutcomeKind::kNotReady,
           .message = fmt::format("The node that owns the session ({}) does not take the call: {}.",
                                  node.url.authority, answer.why)},
          {}};
      break;
    case Answer::Kind::kForeign:
      result = {HopResult::End::kBroken, {}, std::move(answer.why)};
      break;
  }
  end(hop, std::move(result));
  if (!closed_) serve(node);
}

void HopClient::Impl::on_failure(Hop& hop, HopFailure failure, std::string why) {
  const auto self = shared_from_this();
  Node& node = hop.node;
  remove(node, std::exchange(hop.connection, nullptr));
  if (failure == HopFailure::kUnsent && hop.on_used_connection) {
    hop.sent = false;
    node.waiting.push_front(hop.id);
  } else {
    const bool broken = failure == HopFailure::kBroken;
    end(hop,
        {broken ? HopResult::End::kBroken : HopResult::End::kNotConnected, {}, std::move(why)});
  }
  if (!closed_) serve(node);
}

// Nobody waits for its answer any more.
void HopClient::Impl::give_up(HopId id, const std::string& why) {
  const auto hop = find(id);
  if (!hop) return;
  Node& node = hop->node;
  if (const auto connection = std::exchange(hop->connection, nullptr)) {
    connection->close();
    remove(node, connection);
  }
  end(*hop, {hop->sent ? HopResult::End::kBroken : HopResult::End::kNotConnected, {}, why});
  if (!closed_) serve(node);
}

void HopClient::Impl::end(Hop& hop, HopResult&& result) {
  const auto found = hops_.find(hop.id);
  if (found == hops_.end()) return;
  const auto keep = std::move(found->second);
  hops_.erase(found);
  keep->limit.reset();
  keep->cancel_again.reset();
  std::exchange(keep->done, nullptr)(std::move(result));
}

// From the loop: the caller has not got the id yet.
void HopClient::Impl::end_soon(HopId id, HopResult&& result) {
  boost::asio::post(loop_, [weak = weak_from_this(), id, result = std::move(result)]() mutable {
    const auto self = weak.lock();
    const auto hop = self ? self->find(id) : nullptr;
    if (hop) self->end(*hop, std::move(result));
  });
}

void HopClient::Impl::grant(HopId id, std::uint32_t items) {
  const auto hop = find(id);
  if (!hop) return;
  hop->credit += items;
  // Not at once: a caller may grant from within its callback.
  boost::asio::post(loop_, [weak = std::weak_ptr(hop)] {
    const auto waiting = weak.lock();
    if (waiting && waiting->connection) waiting->connection->resume();
  });
}

void HopClient::Impl::cancel(HopId id) {
  const auto hop = find(id);
  if (!hop || std::exchange(hop->cancelled, true)) return;
  if (hop->sent && hop->ends) return;  // its answer comes soon, or the limit
  if (hop->sent) return ask_to_cancel(*hop);
  if (const auto connection = std::exchange(hop->connection, nullptr)) {
    connection->close();
    remove(hop->node, connection);
  }
  std::erase(hop->node.waiting, id);
  end_soon(id, {HopResult::End::kOutcome,
                {.kind = OutcomeKind::kCancelled,
                 .message = "The call was cancelled before it was sent to the node that owns its "
                            "session."},
                {}});
  serve(hop->node);
}

void HopClient::Impl::ask_to_cancel(Hop& hop) {
  const auto cancel = std::make_shared<Cancel>();
  cancel->impl = this;
  cancel->hop = hop.id;
  cancel->text = cancel_request(hop.name, hop.node.url.authority, sender_);
  cancel->connection = std::make_shared<HopConnection>(loop_, options_.reply);
  cancels_.emplace(cancel.get(), cancel);
  cancel->connection->connect(
      hop.node.url, options_.connect_timeout,
      [weak = weak_from_this(), plain = cancel.get()](std::optional<std::string> error) {
        const auto self = weak.lock();
        if (!self || !self->cancels_.contains(plain)) return;
        if (error) return self->cancel_is_over(*self->cancels_.at(plain));
        const auto ready = self->cancels_.at(plain);
        ready->connection->exchange(*ready, ready->text, {});
      });
}

// The request that cancels can arrive before the call itself, and then finds nothing. So it is sent
// again for as long as the call has no answer.
void HopClient::Impl::cancel_is_over(Cancel& cancel) {
  const auto keep = std::move(cancels_.at(&cancel));
  cancels_.erase(&cancel);
  keep->connection->close();
  const auto hop = find(keep->hop);
  if (!hop) return;
  hop->cancel_again.emplace(loop_, options_.cancel_again);
  hop->cancel_again->async_wait(
      [weak = weak_from_this(), id = hop->id](const boost::system::error_code& error) {
        const auto self = weak.lock();
        const auto waiting = self && !error ? self->find(id) : nullptr;
        if (waiting) self->ask_to_cancel(*waiting);
      });
}

void HopClient::Impl::forget(const std::string& url) {
  const auto found = nodes_.find(url);
  if (found == nodes_.end()) return;
  std::vector<HopId> ids;
  for (const auto& [id, hop] : hops_) {
    if (&hop->node == &found->second) ids.push_back(id);
  }
  found->second.waiting.clear();
  const auto self = shared_from_this();
  for (const HopId id : ids) give_up(id, "the node is gone");
  if (closed_) return;
  for (const auto& connection : std::exchange(found->second.idle, {})) {
    connection->close();
    remove(found->second, connection);
  }
}

HopClient::Use HopClient::Impl::use(const std::string& url) const {
  const auto found = nodes_.find(url);
  if (found == nodes_.end()) return {};
  return {found->second.connections.size(), found->second.idle.size(),
          found->second.waiting.size()};
}

void HopClient::Impl::close() {
  closed_ = true;
  for (auto& [url, node] : nodes_) {
    for (const auto& connection : node.connections) connection->close();
  }
  for (const auto& [plain, cancel] : cancels_) cancel->connection->close();
  cancels_.clear();
  for (const auto& [id, hop] : std::exchange(hops_, {})) {
    hop->limit.reset();
    hop->cancel_again.reset();
    hop->connection.reset();
  }
  nodes_.clear();
}

HopClient::HopClient(boost::asio::io_context& loop, Sender sender, Options options)
    : impl_(std::make_shared<Impl>(loop, std::move(sender), options)) {}
HopClient::HopClient(boost::asio::io_context& loop, Sender sender)
    : HopClient(loop, std::move(sender), Options{}) {}
HopClient::~HopClient() { impl_->close(); }

HopClient::HopId HopClient::send(const std::string& url, Call call, std::optional<Duration> limit,
                                 OnItem on_item, OnResult done) {
  return impl_->send(url, std::move(call), limit, std::move(on_item), std::move(done));
}
HopClient::HopId HopClient::end_session(const std::string& url, std::string session, Duration limit,
                                        OnResult done) {
  return impl_->end_session(url, std::move(session), limit, std::move(done));
}
void HopClient::grant(HopId hop, std::uint32_t items) { impl_->grant(hop, items); }
void HopClient::cancel(HopId hop) { impl_->cancel(hop); }
void HopClient::give_up(HopId hop, std::string why) { impl_->give_up_soon(hop, std::move(why)); }
void HopClient::forget(const std::string& url) { impl_->forget(url); }
HopClient::Use HopClient::use(const std::string& url) const { return impl_->use(url); }

}  // namespace keelback::nodes
