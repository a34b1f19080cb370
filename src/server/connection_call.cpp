// The part of a connection that makes calls and answers them, plainly or as a stream of events.
#include <fmt/format.h>

#include <utility>

#include "base/reasons.h"
#include "server/connection.h"
#include "server/sse.h"

namespace keelback::server {
namespace {

std::string call_text(const std::string& name, CallId call) {
  return name.empty() ? fmt::format("{}", call.value) : name;
}

}  // namespace

void Connection::start_call() {
  called_at_ = Clock::now();
  Call call = std::move(admission_.headers.call);
  call_name_ = std::move(admission_.headers.name);
  function_ = admission_.parameter;
  in_session_ = !call.session.empty();
  call.function = std::move(admission_.parameter);
  auto wrong = read_call_body(admission_.body_kind, request_, call);
  request_.body.clear();
  if (wrong) return reply(refused_call(OutcomeKind::kBadRequest, *wrong));
  auto done = [self = shared_from_this()](Outcome&& outcome) {
    self->on_outcome(std::move(outcome));
  };
  host::OnItem item;
  if (admission_.headers.wants_stream) {
    open_stream();
    item = [self = shared_from_this()](std::string&& text) { self->on_item(std::move(text)); };
  }
  if (!admission_.hop.empty()) {
    call_ =
        hub_->driver.take_hop(admission_.hop, std::move(call), std::move(item), std::move(done));
  } else if (item) {
    call_ = hub_->driver.stream(std::move(call), std::move(item), std::move(done));
  } else {
    call_ = hub_->driver.submit(std::move(call), std::move(done));
  }
  if (stream_) {
    stream_->headers = fmt::format("Keelback-Call: {}\r\n", call_text(call_name_, call_));
  }
  if (!call_name_.empty()) hub_->named_calls.insert_or_assign(call_name_, call_);
}

void Connection::end_session() {
  called_at_ = Clock::now();
  call_name_.clear();
  auto done = [self = shared_from_this()](Outcome&& outcome) {
    if (self->state_ != State::kBusy) return;
    if (outcome.ok()) return self->reply({.status = 204, .content_type = {}});
    if (outcome.reason == kNoSession) {
      return self->reply(problem(404, kNoSession, "there is no such session"));
    }
    self->call_ = CallId{outcome.call};
    self->reply_outcome(std::move(outcome));
  };
  if (admission_.hop.empty()) {
    return hub_->driver.end_session(admission_.parameter, std::move(done));
  }
  hub_->driver.take_hop_end(admission_.hop, admission_.parameter, std::move(done));
}

void Connection::on_outcome(Outcome&& outcome) {
  hub_->durations.observe(function_, outcome);
  if (!call_name_.empty()) {
    hub_->named_calls.erase(call_name_);
    if (may_run_on(outcome)) hub_->late_names.add(call_name_, call_);
  }
  if (state_ != State::kBusy) return;
  if (!stream_) return reply_outcome(std::move(outcome));
  // A stream that was refused before anything ran gets a plain HTTP error.
  if (!stream_->head_sent && stream_->items == 0 && !outcome.ok() &&
      outcome.effect == Effect::kNone) {
    stream_.reset();
    return reply_outcome(std::move(outcome));
  }
  end_stream(std::move(outcome));
}

void Connection::reply_outcome(Outcome&& outcome) {
  if (!outcome.attachments.empty()) return reply_attached(std::move(outcome));
  std::string body = outcome.ok() ? std::move(outcome.payload) : problem_of(outcome);
  open_reply(http_status(outcome), outcome.ok() ? kJson : kProblemJson, body.size());
  append_outcome_headers(out_, outcome, call_text(call_name_, call_), Clock::now() - called_at_);
  out_ += "\r\n";
  send(std::move(body));
}

void Connection::reply_attached(Outcome&& outcome) {
  std::string headers;
  append_outcome_headers(headers, outcome, call_text(call_name_, call_), Clock::now() - called_at_);
  AttachedReply reply =
      admission_.hop.empty()
          ? write_attached(std::move(outcome), request_.get(Header::kAccept), fresh_boundary())
          : write_exactly(outcome, fresh_boundary());
  open_reply(200, reply.content_type, reply.body.size());
  out_ += headers + reply.headers + "\r\n";
  send(std::move(reply.body));
}

// ---- as a stream

void Connection::on_item(std::string&& item) {
  if (state_ != State::kBusy || !stream_) {
    // The client has gone and the call may finish by itself: do not stop it.
    if (!hub_->stopping()) hub_->driver.grant(call_, 1);
    return;
  }
  append_event(stream_->pending, "item", item);
  ++stream_->pending_items;
  ++stream_->items;
  flush_stream();
}

void Connection::end_stream(Outcome&& outcome) {
  if (outcome.ok() && !outcome.payload.empty()) {  // a function that does not stream
    // Another node must know that this is no item.
    append_event(stream_->pending, admission_.hop.empty() ? "item" : "result", outcome.payload);
    ++stream_->items;
  }
  append_last_event(stream_->pending, outcome, stream_->items);
  stream_->ended = true;
  flush_stream();
}

}  // namespace keelback::server
