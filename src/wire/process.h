// What a worker process is born with, and the words it shares with its supervisor
// (docs/protocol.md, "What a worker starts with" and "Marks").
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/stream.h"
#include "wire/frame.h"

namespace keelback::wire {

// Descriptors of a worker started by exec.
inline constexpr int kDataFd = 3;
inline constexpr int kControlFd = 4;
inline constexpr int kMarksFd = 5;
inline constexpr int kLifelineFd = 6;

// The marks memfd: words at these offsets, 8-byte aligned, 64 bits, little-endian machines only
// (they are shared memory, not a message). Read and write them as atomics.
inline constexpr std::size_t kMarksBytes = 192 << 10;
inline constexpr std::size_t kMarkStarted = 0;         // worker writes
inline constexpr std::size_t kMarkEnded = 8;           // worker writes
inline constexpr std::size_t kMarkCancel = 16;         // supervisor writes
inline constexpr std::size_t kMarkInterrupt = 24;      // supervisor writes
inline constexpr std::size_t kMarkResultMax = 32;      // supervisor writes; 0: kResultMaxDefault
inline constexpr std::size_t kMarkSnapshotMax = 40;    // supervisor writes; 0: kSnapshotMaxDefault
inline constexpr std::size_t kMarkDispatched = 48;     // supervisor writes, before kMarkCancel
inline constexpr std::size_t kMarkAttachedMax = 64;    // supervisor writes; 0: kAttachedMaxDefault
inline constexpr std::size_t kMarkOrdered = 72;        // worker writes
inline constexpr std::size_t kMarkTurn = 80;           // worker writes
inline constexpr std::size_t kMarkLoopThread = 88;     // worker writes
inline constexpr std::size_t kMarkEnding = 96;         // worker writes, after kMarkEndingSignal
inline constexpr std::size_t kMarkEndingSignal = 104;  // worker writes
inline constexpr std::uint64_t kResultMaxDefault = 16 << 20;    // bytes
inline constexpr std::uint64_t kSnapshotMaxDefault = 1 << 20;   // bytes
inline constexpr std::uint64_t kAttachedMaxDefault = 64 << 20;  // bytes

// Each shared call has a row of words of its own. Rows count from 1.
inline constexpr std::size_t kRowsOffset = 4096;
inline constexpr std::size_t kRowBytes = 32;
inline constexpr std::size_t kRowStarted = 0;  // worker writes
inline constexpr std::size_t kRowEnded = 8;    // worker writes
inline constexpr std::size_t kRowCancel = 16;  // supervisor writes
inline constexpr std::size_t kRowThread = 24;  // worker writes
// Where the row begins. Requires: 1 <= row <= kRowsMax.
constexpr std::size_t row_offset(std::uint16_t row) { return kRowsOffset + kRowBytes * (row - 1U); }

// Texts, NUL-terminated or to the end of their area. What is too long for the first runs on into
// the second, and nothing but the end of the memfd stops either.
inline constexpr std::size_t kDumpOffset = kRowsOffset + kRowBytes * kRowsMax;
inline constexpr std::size_t kStackOffset = 128 << 10;
inline constexpr std::size_t kDumpBytesMax = kStackOffset - kDumpOffset;

// Asks for the stacks of all threads, at kDumpOffset.
inline constexpr int kDumpSignal = 63;
// Asks for the stack of the thread that it comes to, at the position of the marks descriptor.
inline constexpr int kStackSignal = 62;

// How many items of a stream may be sent unasked.
inline constexpr unsigned kStreamCredit = keelback::kStreamCredit;

}  // namespace keelback::wire
