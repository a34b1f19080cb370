#include "chaos/interposer.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "os/socket.h"
#include "wire/frame.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
using wire::Type;

constexpr std::size_t kQueuedBytesMax = 1 << 20;  // then its sender waits, as it would without us
constexpr std::uint64_t kNobodysCall = std::uint64_t{1} << 62;
constexpr auto kLongSleep = 1s;

Time now_of_the_machine() { return Time{std::chrono::steady_clock::now().time_since_epoch()}; }

Type type_of(const std::string& frame) { return static_cast<Type>(frame[4]); }
bool is_answer(const std::string& frame) {
  const Type type = type_of(frame);
  return type == Type::kResult || type == Type::kError || type == Type::kEnd;
}
bool at_start(Misdeed what) {
  return what == Misdeed::kVersion || what == Misdeed::kHalfGreet || what == Misdeed::kNoGreeting;
}
std::uint32_t length_of(const std::string& bytes) {
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  return length;
}

}  // namespace

std::expected<std::unique_ptr<Interposer>, std::string> Interposer::start() {
  auto waker = os::make_pipe();
  if (!waker) return std::unexpected(waker.error().message());
  std::unique_ptr<Interposer> made(new Interposer);
  made->waker_ = std::move(*waker);
  for (const int fd : {made->waker_.read.get(), made->waker_.write.get()}) {
    if (auto set = os::set_nonblocking(fd, true); !set)
      return std::unexpected(set.error().message());
  }
  made->thread_ = std::thread([interposer = made.get()] { interposer->run(); });
  return made;
}

Interposer::~Interposer() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

void Interposer::wake() {
  if (::write(waker_.write.get(), "", 1) < 0) return;  // full: it is awake
}

os::Fd Interposer::stand_between(WorkerId worker, os::Fd theirs) {
  auto pair = os::make_seqpacket_pair();
  if (!pair) return theirs;  // then no fault of the channel can bite, and the fault says so
  auto link = std::make_unique<Link>();
  link->worker = worker;
  link->supervisor = std::move(theirs);
  link->process = std::move(pair->ours);
  link->up.from = link->down.to = link->process.get();
  link->up.to = link->down.from = link->supervisor.get();
  {
    const std::lock_guard lock(mutex_);
    link->orders = for_starts_;
    links_.push_back(std::move(link));
  }
  wake();
  return std::move(pair->theirs);
}

bool Interposer::order(WorkerId worker, const ChannelOrder& order) {
  const std::lock_guard lock(mutex_);
  for (auto& link : links_) {
    if (link->worker != worker || link->closed) continue;
    link->orders.push_back(order);
    return true;
  }
  return false;
}

void Interposer::order_start(const ChannelOrder& order) {
  const std::lock_guard lock(mutex_);
  for_starts_.push_back(order);
}

void Interposer::lift_start(const std::string& fault) {
  const std::lock_guard lock(mutex_);
  std::erase_if(for_starts_, [&](const ChannelOrder& each) { return each.fault == fault; });
}

void Interposer::lift(const std::string& fault) {
  const std::lock_guard lock(mutex_);
  for (auto& link : links_) {
    std::erase_if(link->orders, [&](const ChannelOrder& each) { return each.fault == fault; });
    if (link->stalled_by == fault) link->stalled_by.clear();
  }
  wake();
}

std::uint64_t Interposer::hits(const std::string& fault) const {
  const std::lock_guard lock(mutex_);
  const auto found = hits_.find(fault);
  return found == hits_.end() ? 0 : found->second;
}

// ---- the thread

void Interposer::run() {
  std::vector<pollfd> fds;
  while (true) {
    Time until;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) break;
      until = turn(now_of_the_machine());
      fds.assign(1, {.fd = waker_.read.get(), .events = POLLIN, .revents = 0});
      for (const auto& link : links_) {
        for (const auto& [fd, in, out] :
             {std::tuple(link->process.get(), &link->up, &link->down),
              std::tuple(link->supervisor.get(), &link->down, &link->up)}) {
          const bool reads = !in->ended && in->queued_bytes < kQueuedBytesMax;
          const bool writes = !out->queue.empty() && out->queue.front().not_before <= until &&
                              out->queue.front().not_before <= now_of_the_machine();
          fds.push_back(
              {.fd = fd,
               .events = static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)),
               .revents = 0});
        }
      }
    }
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - now_of_the_machine());
    // A link at its end that waits for its time is no reason to spin: POLLHUP cannot be masked.
    for (pollfd& each : fds) {
      if (each.events == 0) each.fd = -1;
    }
    ::poll(fds.data(), fds.size(), static_cast<int>(std::max<std::int64_t>(wait.count(), 0)));
    char drained[64];
    while (::read(waker_.read.get(), drained, sizeof(drained)) > 0) {
    }
  }
  const std::lock_guard lock(mutex_);
  links_.clear();
}

Time Interposer::turn(Time now) {
  Time next = now + kLongSleep;
  for (auto& link : links_) {
    for (Way* way : {&link->up, &link->down}) {
      read(*link, *way, now);
      write(*link, *way, now);
      // What is due and still here is blocked: it waits for POLLOUT, not for the clock.
      if (!way->queue.empty() && way->queue.front().not_before > now)
        next = std::min(next, way->queue.front().not_before);
    }
    // What has arrived is still delivered, then comes the end.
    const bool over = link->close_when_empty || link->up.ended || link->down.ended;
    if (over && link->up.queue.empty() && (link->down.queue.empty() || link->up.ended))
      close(*link);
  }
  std::erase_if(links_, [](const auto& link) { return link->closed; });
  return next;
}

void Interposer::close(Link& link) {
  link.closed = true;
  link.supervisor.reset();
  link.process.reset();
}

void Interposer::read(Link& link, Way& way, Time now) {
  std::array<std::byte, wire::kPacketMax> buffer;
  while (!way.ended && way.queued_bytes < kQueuedBytesMax) {
    const auto got = os::receive_packet(way.from, buffer, os::Wait::kNo);
    if (!got && got.error().value() == EAGAIN) return;
    if (!got || got->size == 0) {
      way.ended = true;
      return;
    }
    const std::string_view bytes(reinterpret_cast<const char*>(buffer.data()), got->size);
    if (&way == &link.down) {
      push(way, std::string(bytes), now);
      continue;
    }
    way.partial += bytes;
    while (way.partial.size() >= wire::kHeaderBytes) {
      const std::uint32_t length = length_of(way.partial);
      if (length < wire::kHeaderBytes) {  // the worker's own fault: the supervisor shall see it
        push(way, std::exchange(way.partial, {}), now);
        break;
      }
      if (way.partial.size() < length) break;
      std::string whole = way.partial.substr(0, length);
      way.partial.erase(0, length);
      frame(link, std::move(whole), now);
    }
  }
}

// A whole frame of the worker's.
void Interposer::frame(Link& link, std::string frame, Time now) {
  if (!link.stalled_by.empty() || link.close_when_empty) return;
  const bool answer = is_answer(frame);
  const bool greeting = type_of(frame) == Type::kConnect;
  for (std::size_t i = 0; i < link.orders.size(); ++i) {
    const ChannelOrder order = link.orders[i];
    if (at_start(order.what) ? !greeting : !answer) continue;
    if (order.what == Misdeed::kStale && link.last_answer.empty()) continue;
    if (order.answers == 1) link.orders.erase(link.orders.begin() + static_cast<std::ptrdiff_t>(i));
    if (order.answers > 1) --link.orders[i].answers;
    ++hits_[order.fault];
    const std::string kept = answer ? frame : std::string();
    misbehave(link, order, std::move(frame), now);
    if (answer) link.last_answer = kept;
    return;
  }
  if (answer) link.last_answer = frame;
  push(link.up, std::move(frame), now);
}

void Interposer::misbehave(Link& link, const ChannelOrder& order, std::string frame, Time now) {
  const auto half = [&] { return frame.substr(0, std::max<std::size_t>(frame.size() / 2, 1)); };
  switch (order.what) {
    case Misdeed::kGarbage:
      return push(link.up, std::string(frame.size(), '\xaa'), now);
    case Misdeed::kHeader:
      frame[4] = static_cast<char>(frame[4] ^ 0x40);
      return push(link.up, std::move(frame), now);
    case Misdeed::kHalfStall:
    case Misdeed::kHalfGreet:
      link.stalled_by = order.fault;
      return push(link.up, half(), now);
    case Misdeed::kHalfClose:
      link.close_when_empty = true;
      return push(link.up, half(), now);
    case Misdeed::kClose:
      link.close_when_empty = true;
      return;
    case Misdeed::kDuplicate:
      push(link.up, frame, now);
      return push(link.up, std::move(frame), now);
    case Misdeed::kStale:
      push(link.up, link.last_answer, now);
      return push(link.up, std::move(frame), now);
    case Misdeed::kUnknown: {
      std::string stray = frame;
      std::uint64_t call = 0;
      std::memcpy(&call, stray.data() + 8, sizeof(call));
      call += kNobodysCall;
      std::memcpy(stray.data() + 8, &call, sizeof(call));
      push(link.up, std::move(stray), now);
      return push(link.up, std::move(frame), now);
    }
    case Misdeed::kLate:
      return push(link.up, std::move(frame), now + order.delay);
    case Misdeed::kDrip:
      for (std::size_t at = 0, n = 0; at < frame.size(); at += order.bytes, ++n) {
        push(link.up, frame.substr(at, order.bytes),
             now + order.delay * static_cast<std::int64_t>(n));
      }
      return;
    case Misdeed::kDrop:
      return;
    case Misdeed::kVersion:
      if (frame.size() >= wire::kHeaderBytes + 4) frame[wire::kHeaderBytes] = 99;
      return push(link.up, std::move(frame), now);
    case Misdeed::kNoGreeting:
      link.stalled_by = order.fault;
      return;
  }
}

void Interposer::push(Way& way, std::string bytes, Time not_before) {
  // In order: nothing overtakes what is held back.
  if (!way.queue.empty()) not_before = std::max(not_before, way.queue.back().not_before);
  for (std::size_t at = 0; at < bytes.size(); at += wire::kPacketMax) {
    std::string piece = bytes.substr(at, wire::kPacketMax);
    way.queued_bytes += piece.size();
    way.queue.push_back({std::move(piece), not_before});
  }
}

void Interposer::write(Link& link, Way& way, Time now) {
  while (!way.queue.empty() && way.queue.front().not_before <= now) {
    const std::string& bytes = way.queue.front().bytes;
    const auto sent = os::send_packet(way.to, bytes, os::Wait::kNo);
    if (!sent && sent.error().value() == EAGAIN) return;
    if (!sent) {  // the other end is gone
      way.queue.clear();
      way.queued_bytes = 0;
      (&way == &link.up ? link.down : link.up).ended = true;
      return;
    }
    way.queued_bytes -= bytes.size();
    way.queue.pop_front();
  }
}

}  // namespace keelback::chaos
