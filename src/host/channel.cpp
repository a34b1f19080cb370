#include "host/channel.h"

#include <utility>

#include "host/hello.h"

namespace keelback::host {

Channel::Channel(os::Fd socket, std::uint32_t frame_bytes_max)
    : socket_(std::move(socket)),
      frame_bytes_max_(frame_bytes_max),
      decoder_(wire::Link::kSupervisorData, frame_bytes_max),
      scratch_(std::make_unique_for_overwrite<std::byte[]>(wire::kPacketMax)) {}

void Channel::push(std::string head, std::shared_ptr<const std::string> payload) {
  const os::MutexLock lock(mutex_);
  if (broken_) return;
  out_.push_back({std::move(head), std::move(payload), {}, false});
}

Channel::Flushed Channel::flush() {
  const os::MutexLock lock(mutex_);
  while (!out_.empty()) {
    Outgoing& next = out_.front();
    if (!next.planned) {
      next.plan = next.payload ? wire::Packets(next.head, *next.payload) : wire::Packets(next.head);
      next.planned = true;
    }
    for (; !next.plan.done(); next.plan.sent()) {
      const wire::Packets::Packet packet = next.plan.packet();
      iovec parts[2];
      for (std::size_t i = 0; i < packet.count; ++i) {
        parts[i] = {const_cast<char*>(packet.parts[i].data()), packet.parts[i].size()};
      }
      const auto sent =
          os::send_packet(socket_.get(), std::span(parts, packet.count), os::Wait::kNo);
      if (sent) continue;
      if (sent.error().value() == EAGAIN) return Flushed::kBlocked;
      broken_ = true;
      out_.clear();
      return Flushed::kBroken;
    }
    out_.pop_front();
  }
  return broken_ ? Flushed::kBroken : Flushed::kAll;
}

bool Channel::has_pending() const {
  const os::MutexLock lock(mutex_);
  return !out_.empty();
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

bool Channel::take_frames(std::vector<WorkerMessage>& out) {
  for (;;) {
    auto frame = decoder_.next();
    if (!frame) {
      violation_ = wire::to_string(frame.error());
      return false;
    }
    if (!*frame) return true;
    WorkerMessage message{(*frame)->type(), (*frame)->unclean(), (*frame)->call(), {}, {}, {}, {}};
    if (message.type == wire::Type::kError) {
      if (!take_error(**frame, message)) return false;
    } else if (message.type == wire::Type::kSaved || message.type == wire::Type::kSnapshot) {
      if (!take_state(**frame, message)) return false;
    } else if (message.type == wire::Type::kConnect) {
      const auto version = wire::decode_connect(**frame);
      if (!version || *version != wire::kVersion) {
        violation_ = "another version of the protocol";
        return false;
      }
    } else {
      message.body = decoder_.take_body();
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
