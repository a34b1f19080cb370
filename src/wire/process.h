// What a worker process is born with, and the words it shares with its supervisor
// (docs/protocol.md, "What a worker is born with" and "Marks").
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/stream.h"

namespace keelback::wire {

// Descriptors of a worker started by exec.
inline constexpr int kDataFd = 3;
inline constexpr int kControlFd = 4;
inline constexpr int kMarksFd = 5;
inline constexpr int kLifelineFd = 6;

// The marks memfd: words at these offsets, 8-byte aligned, 64 bits, little-endian machines only
// (they are shared memory, not a message). Read and write them as atomics.
inline constexpr std::size_t kMarksBytes = 128 << 10;
inline constexpr std::size_t kMarkStarted = 0;       // worker writes
inline constexpr std::size_t kMarkEnded = 8;         // worker writes
inline constexpr std::size_t kMarkCancel = 16;       // supervisor writes
inline constexpr std::size_t kMarkInterrupt = 24;    // supervisor writes
inline constexpr std::size_t kMarkResultMax = 32;    // supervisor writes; 0: kResultMaxDefault
inline constexpr std::size_t kMarkSnapshotMax = 40;  // supervisor writes; 0: kSnapshotMaxDefault
inline constexpr std::size_t kMarkDispatched = 48;   // supervisor writes, before kMarkCancel
inline constexpr std::size_t kMarkAttachedMax = 64;  // supervisor writes; 0: kAttachedMaxDefault
inline constexpr std::size_t kMarkOrdered = 72;      // worker writes
inline constexpr std::uint64_t kResultMaxDefault = 16 << 20;    // bytes
inline constexpr std::uint64_t kSnapshotMaxDefault = 1 << 20;   // bytes
inline constexpr std::uint64_t kAttachedMaxDefault = 64 << 20;  // bytes
inline constexpr std::size_t kDumpOffset = 36864;  // text, NUL-terminated or to the end
inline constexpr std::size_t kDumpBytesMax = kMarksBytes - kDumpOffset;

// Asks for the stacks of all threads, at kDumpOffset.
inline constexpr int kDumpSignal = 63;

// How many items of a stream may be sent unasked.
inline constexpr unsigned kStreamCredit = keelback::kStreamCredit;

}  // namespace keelback::wire
