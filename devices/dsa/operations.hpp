// SPDX-License-Identifier: Apache-2.0
// What the operations do to memory. Descriptors have passed check().
#pragma once

#include <cstdint>

#include "devices/dsa/descriptor.hpp"
#include "devices/dsa/transfer.hpp"

namespace inox::devices::dsa {

/// Copies bytes between host buffers; the ones of a guest's descriptor, already translated.
class Copier {
public:
    Copier() = default;
    Copier(const Copier&) = delete;
    Copier& operator=(const Copier&) = delete;
    virtual ~Copier() = default;
    /// The buffers may overlap. On the calling thread; returns when done.
    virtual void copy(std::byte* to, const std::byte* from, std::size_t size) noexcept = 0;
};

/// By the CPU's own instructions.
class CpuCopier final : public Copier {
public:
    void copy(std::byte* to, const std::byte* from, std::size_t size) noexcept override;
};

struct Outcome {
    CompletionRecord record{};
    bool cancelled{}; ///< nothing may be reported
    [[nodiscard]] bool succeeded() const { return record.status == static_cast<std::uint8_t>(Status::success); }
};

[[nodiscard]] Outcome failed(Status status);

/// One descriptor that moves or looks at data, or does nothing; not BATCH. Pieces of memory the submitter may not
/// reach end it with a page fault: nothing beyond what `memory` grants is touched.
class Operation {
public:
    Operation(const DmaMemory& memory, Pace& pace, Copier& copier)
        : memory_{memory}, transfer_{memory, pace}, copier_{copier} {}
    [[nodiscard]] Outcome run(const Descriptor& descriptor);

private:
    void copy_pieces(std::vector<iovec>& source, std::vector<iovec>& destination, std::size_t bytes);
    [[nodiscard]] Outcome drain(const Descriptor& descriptor);
    [[nodiscard]] Outcome memmove(const Descriptor& descriptor);
    [[nodiscard]] Outcome fill(const Descriptor& descriptor);
    [[nodiscard]] Outcome compare(const Descriptor& descriptor);
    [[nodiscard]] Outcome compare_pattern(const Descriptor& descriptor);
    [[nodiscard]] Outcome dualcast(const Descriptor& descriptor);
    [[nodiscard]] Outcome crc(const Descriptor& descriptor);
    [[nodiscard]] Outcome create_delta(const Descriptor& descriptor);
    [[nodiscard]] Outcome apply_delta(const Descriptor& descriptor);

    const DmaMemory& memory_;
    Transfer transfer_;
    Copier& copier_;
};

// For the implementation's files.

/// Success, or why the walk stopped.
[[nodiscard]] Outcome outcome_of(const std::optional<Stop>& stop, std::uint64_t size);
/// Sets the status of an operation with a result by what the descriptor expects of it.
void judge(Outcome& outcome, const Descriptor& descriptor, std::uint8_t expected, std::uint8_t mask);

} // namespace inox::devices::dsa
