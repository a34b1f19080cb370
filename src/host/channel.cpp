#include "host/channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/json_text.h"
#include "host/hello.h"
#include "os/clock.h"

namespace keelback::host {

Channel::Channel(os::Fd socket, std::uint32_t frame_bytes_max, SlabBudget& slab_budget)
    : socket_(std::move(socket)),
      frame_bytes_max_(frame_bytes_max),
      slabs_(slab_budget),
      decoder_(wire::Link::kSupervisorData, frame_bytes_max),
      scratch_(std::make_unique_for_overwrite<std::byte[]>(wire::kPacketMax)) {}

std::string Channel::push(std::string head, std::shared_ptr<const std::string> payload) {
  return push(0, std::move(head), std::move(payload), nullptr, false);
}

std::string Channel::push(std::uint64_t call, std::string head,
                          std::shared_ptr<const std::string> payload,
                          std::shared_ptr<const Attachments> attachments, bool inlined) {
  const os::MutexLock lock(mutex_);
  if (broken_) {
    head.clear();
    return head;
  }
  Outgoing& next = make(out_.end());
  next.head.swap(head);
  next.payload = std::move(payload);
  next.call = call;
  next.attachments = std::move(attachments);
  next.inlined = inlined;
  return head;
}

void Channel::push(std::vector<SlabNews> news) {
  for (SlabNews& each : news) {
    Outgoing& next = make(out_.end());
    next.head = std::move(each.bytes);
    next.fd = std::move(each.fd);
  }
}

Channel::Outgoing& Channel::make(Queue::iterator where) {
  if (used_.empty()) return *out_.emplace(where);
  out_.splice(where, used_, used_.begin());
  return *std::prev(where);
}

void Channel::retire_front() {
  // A few short ones are kept: a call has one, or three.
  constexpr std::size_t kKept = 4, kKeptBytes = 32 << 10;
  if (used_.size() == kKept) return out_.pop_front();
  std::string head = std::move(out_.front().head);
  out_.front() = {};
  if (head.capacity() <= kKeptBytes) {
    head.clear();
    out_.front().head = std::move(head);
  }
  used_.splice(used_.end(), out_, out_.begin());
}

// The call at the front: its attachments into slabs, what the worker must know of those before it.
void Channel::put_in_place(Outgoing& next) {
  std::vector<SlabNews> news;
  std::string frames;
  slabs_.attach(next.call, *std::exchange(next.attachments, nullptr), next.inlined, news, frames);
  next.head.insert(0, frames);
  for (auto each = news.rbegin(); each != news.rend(); ++each) {
    Outgoing& first = make(out_.begin());
    first.head = std::move(each->bytes);
    first.fd = std::move(each->fd);
  }
}

os::Result<void> Channel::send(const Outgoing& next) {
  const wire::Packets::Packet packet = next.plan.packet();
  if (next.fd) {
    const int fd = next.fd.get();
    return os::send_packet_with_fds(socket_.get(), packet.parts[0], std::span(&fd, 1),
                                    os::Wait::kNo);
  }
  iovec parts[2];
  for (std::size_t i = 0; i < packet.count; ++i) {
    parts[i] = {const_cast<char*>(packet.parts[i].data()), packet.parts[i].size()};
  }
  return os::send_packet(socket_.get(), std::span(parts, packet.count), os::Wait::kNo);
}

Channel::Flushed Channel::flush() {
  const os::MutexLock lock(mutex_);
  while (!out_.empty()) {
    if (out_.front().attachments != nullptr) put_in_place(out_.front());
    Outgoing& next = out_.front();
    if (!next.planned) {
      next.plan = next.payload ? wire::Packets(next.head, *next.payload) : wire::Packets(next.head);
      next.planned = true;
    }
    for (; !next.plan.done(); next.plan.sent()) {
      const auto sent = send(next);
      if (sent) continue;
      if (sent.error().value() == EAGAIN) return Flushed::kBlocked;
      broken_ = true;
      out_.clear();
      return Flushed::kBroken;
    }
    retire_front();
  }
  return broken_ ? Flushed::kBroken : Flushed::kAll;
}

bool Channel::has_pending() const {
  const os::MutexLock lock(mutex_);
  return !out_.empty();
}

Slabs::Dropped Channel::shrink_slabs(Time limit) {
  const os::MutexLock lock(mutex_);
  Slabs::Dropped dropped;
  std::vector<SlabNews> news;
  slabs_.drop_unused_since(limit, news, dropped);
  if (!broken_) push(std::move(news));
  return dropped;
}

void Channel::drop_slabs() {
  const os::MutexLock lock(mutex_);
  slabs_.clear();
}

std::uint64_t Channel::slab_bytes() const {
  const os::MutexLock lock(mutex_);
  return slabs_.bytes();
}

std::size_t Channel::slab_count() const {
  const os::MutexLock lock(mutex_);
  return slabs_.count();
}

Channel::Received Channel::receive(os::Wait wait, std::vector<WorkerMessage>& out) {
  if (!violation_.empty()) return Received::kViolation;
  decoder_.set_frame_max(frame_bytes_max_);
  const std::span<char> room = decoder_.room();
  iovec parts[2] = {{room.data(), room.size()}, {scratch_.get(), wire::kPacketMax}};
  const std::span<const iovec> used = room.empty() ? std::span(&parts[1], 1) : std::span(parts, 2);
  auto packet = os::receive_packet(socket_.get(), used, wait);
  // A worker that died with our bytes unread resets the connection: the error comes first, once,
  // and what the worker wrote is still behind it.
  if (!packet && packet.error().value() == ECONNRESET) {
    packet = os::receive_packet(socket_.get(), used, wait);
  }
  if (!packet) {
    return packet.error().value() == EAGAIN ? Received::kNothing : Received::kEnd;
  }
  if (packet->size == 0) return Received::kEnd;
  if (packet->truncated) {
    violation_ = "a packet of more than 64 KiB";
    return Received::kViolation;
  }
  const std::size_t in_room = std::min(packet->size, room.size());
  decoder_.filled(in_room);
  if (packet->size > in_room) {
    decoder_.feed({reinterpret_cast<const char*>(scratch_.get()), packet->size - in_room});
  }
  return take_frames(out) ? Received::kSome : Received::kViolation;
}

// The socket's own timeout ends the wait, so that a call costs one receive and nothing else. It is
// set anew only where it would end too late, or has ended too early. Powers of two keep it from
// being set for every call whose deadline is a little nearer than that of the call before.
Channel::Received Channel::receive(Time until, std::vector<WorkerMessage>& out) {
  constexpr Duration kShortest = std::chrono::milliseconds(1);
  constexpr Duration kLongest = std::chrono::hours(1);
  bool exact = false;
  for (;;) {
    const Duration left = until - os::monotonic_now();
    if (left <= Duration{0}) return receive(os::Wait::kNo, out);
    if (timeout_ > left || exact) {
      Duration wanted = std::clamp(left, kShortest, kLongest);
      if (!exact) wanted = Duration(std::bit_floor(static_cast<std::uint64_t>(wanted.count())));
      if (!os::set_receive_timeout(socket_.get(), wanted)) return Received::kEnd;
      timeout_ = wanted;
    }
    const Received received = receive(os::Wait::kTimed, out);
    if (received != Received::kNothing) return received;
    exact = true;
  }
}

// `answer`: the worker waits for what was pushed.
bool Channel::take_slab_frame(const wire::Frame& frame, bool& answer) {
  const os::MutexLock lock(mutex_);
  if (frame.type() == wire::Type::kSlabWanted) {
    const auto bytes = wire::decode_slab_wanted(frame);
    if (!bytes) return false;
    std::vector<SlabNews> news;
    slabs_.grow(*bytes, news);
    if (!broken_) push(std::move(news));
    answer = true;
    return true;
  }
  const auto slab = wire::decode_slab_note(frame);
  if (!slab) return false;
  return frame.type() == wire::Type::kSlabKept ? slabs_.keep(*slab) : slabs_.freed(*slab);
}

// One attachment of the result that is to come, copied out of where it lies.
bool Channel::take_attached(const wire::Frame& frame) {
  const auto message = wire::decode_attachment(frame);
  if (!message || message->call == 0) return false;
  if (attached_call_ != 0 && attached_call_ != message->call) return false;
  attached_call_ = message->call;
  if (++attached_count_ > wire::kAttachmentsMax) return false;
  std::shared_ptr<const os::Slab> slab;
  if (message->slab != 0) {
    const os::MutexLock lock(mutex_);
    slab = slabs_.result(*message);
    if (slab == nullptr) return false;
  }
  attached_bytes_ += message->bytes;
  if (attached_bytes_ > attached_max_) {
    attached_.clear();
    return true;  // the rest is only counted: the result is an error
  }
  std::string bytes;
  if (slab != nullptr) {
    bytes.resize_and_overwrite(message->bytes, [&](char* to, std::size_t) {
      std::memcpy(to, slab->data() + message->offset, message->bytes);
      return message->bytes;
    });
  } else {
    bytes = message->inlined;
  }
  attached_.push_back({std::string(message->name), Buffer(std::move(bytes)),
                       std::string(message->dtype), message->shape,
                       std::string(message->content_type), std::string(message->filename)});
  return true;
}

// The answer takes the attachments that came before it, if they are its.
bool Channel::complete(WorkerMessage& message) {
  if (attached_call_ == 0) return true;
  if (attached_call_ != message.call) return false;
  if (message.type == wire::Type::kResult) {
    message.attachments = std::move(attached_);
    message.attachment_bytes = attached_bytes_;
  }
  attached_.clear();
  attached_call_ = attached_count_ = attached_bytes_ = 0;
  return true;
}

// Long, because each type of frame has its case, and a call for each would cost every call.
bool Channel::take_frames(std::vector<WorkerMessage>& out) {
  for (;;) {
    auto frame = decoder_.next();
    if (!frame) {
      violation_ = wire::to_string(frame.error());
      return false;
    }
    if (!*frame) return true;
    const wire::Type type = (*frame)->type();
    if (type >= wire::Type::kSlabWanted && type <= wire::Type::kSlabFreed) {
      bool answer = false;
      const bool legal =
          type == wire::Type::kAttached ? take_attached(**frame) : take_slab_frame(**frame, answer);
      if (!legal) {
        violation_ = fmt::format("{} of what is not there", wire::to_string(type));
        return false;
      }
      if (answer) flush();  // what the socket does not take, the reader sends when it does
      continue;
    }
    if (type == wire::Type::kRetire) {
      retire_reason_ = decoder_.take_body();
      continue;
    }
    WorkerMessage message{.type = type,
                          .unclean = (*frame)->unclean(),
                          .interrupted = (*frame)->interrupted(),
                          .call = (*frame)->call()};
    if (message.type == wire::Type::kError) {
      if (!take_error(**frame, message)) return false;
    } else if (message.type == wire::Type::kSaved || message.type == wire::Type::kSnapshot) {
      if (!take_state(**frame, message)) return false;
    } else if (message.type == wire::Type::kNested || message.type == wire::Type::kNestedCancel) {
      if (!take_ask(**frame, message)) return false;
    } else if (message.type == wire::Type::kChecked) {
      const auto checked = wire::decode_checked(**frame);
      if (!checked) {
        violation_ = wire::to_string(checked.error());
        return false;
      }
      message.healthy = checked->healthy;
      message.body = checked->reason;
    } else if (message.type == wire::Type::kConnect) {
      const auto version = wire::decode_connect(**frame);
      if (!version || *version != wire::kVersion) {
        violation_ = "another version of the protocol";
        return false;
      }
    } else {
      message.body = decoder_.take_body();
    }
    // What came as SAVED has by now the type of its answer. Clients are told that it is JSON.
    if ((message.type == wire::Type::kResult || message.type == wire::Type::kItem) &&
        !is_json(message.body)) {
      violation_ = fmt::format("{} that is not JSON", wire::to_string(message.type));
      return false;
    }
    const bool answers = message.type == wire::Type::kResult ||
                         message.type == wire::Type::kError || message.type == wire::Type::kEnd;
    if (answers && !retire_reason_.empty()) message.retire_reason.swap(retire_reason_);
    if (answers && !complete(message)) {
      violation_ = "attachments of another call";
      return false;
    }
    out.push_back(std::move(message));
  }
}

bool Channel::take_error(const wire::Frame& frame, WorkerMessage& message) {
  const auto error = wire::decode_error(frame);
  if (!error) {
    violation_ = wire::to_string(error.error());
    return false;
  }
  message.error_kind = error->kind;
  message.error = python_error_of(error->json);
  return true;
}

bool Channel::take_ask(const wire::Frame& frame, WorkerMessage& message) {
  message.ask = std::make_unique<WorkerAsk>();
  WorkerAsk& ask = *message.ask;
  if (frame.type() == wire::Type::kNestedCancel) {
    const auto request = wire::decode_nested_cancel(frame);
    if (!request) violation_ = wire::to_string(request.error());
    ask.request = request.value_or(0);
    return request.has_value();
  }
  const auto nested = wire::decode_nested(frame);
  if (!nested) {
    violation_ = wire::to_string(nested.error());
    return false;
  }
  if (!nested->payload.empty() && !is_json(nested->payload)) {
    violation_ = "NESTED that is not JSON";
    return false;
  }
  ask.request = nested->request;
  ask.target = nested->target;
  ask.call.function = nested->name;
  ask.call.session = nested->session;
  if (!nested->payload.empty()) ask.call.payload = nested->payload;
  if (nested->timeout_ns != 0) ask.call.deadline = Duration(nested->timeout_ns);
  return true;
}

bool Channel::take_state(const wire::Frame& frame, WorkerMessage& message) {
  if (message.type == wire::Type::kSnapshot) {
    const auto snapshot = wire::decode_snapshot(frame);
    if (!snapshot) {
      violation_ = wire::to_string(snapshot.error());
      return false;
    }
    message.state =
        std::make_unique<WorkerState>(WorkerState{snapshot->format, std::string(snapshot->state),
                                                  std::string(snapshot->session), snapshot->birth});
    return true;
  }
  const auto saved = wire::decode_saved(frame);
  if (!saved) {
    violation_ = wire::to_string(saved.error());
    return false;
  }
  message.type = saved->answer;
  message.state =
      std::make_unique<WorkerState>(WorkerState{saved->format, std::string(saved->state), {}, 0});
  if (saved->answer == wire::Type::kError) return take_error({frame.header, saved->body}, message);
  message.body = std::string(saved->body);
  return true;
}

}  // namespace keelback::host
