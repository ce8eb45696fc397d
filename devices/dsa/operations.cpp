// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/operations.hpp"

#include <algorithm>
#include <cstring>

#include "devices/dsa/crc32c.hpp"

namespace inox::devices::dsa {
namespace {

/// A repeated pattern of 8 bytes.
class Pattern {
public:
    explicit Pattern(std::uint64_t value) {
        for (std::size_t i = 0; i < bytes_.size(); i += 8)
            std::memcpy(bytes_.data() + i, &value, 8);
    }
    /// The pattern from byte `phase` on; at most as many bytes as are kept ready.
    [[nodiscard]] std::span<const std::byte> from(std::uint64_t phase, std::size_t limit) const {
        const std::size_t start = phase % 8;
        return std::span{bytes_}.subspan(start, std::min(limit, bytes_.size() - start));
    }

private:
    std::array<std::byte, 4096 + 8> bytes_;
};

std::size_t first_difference(std::span<const std::byte> a, std::span<const std::byte> b) {
    if (std::memcmp(a.data(), b.data(), a.size()) == 0)
        return a.size();
    return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

/// Result 0 means equal; 1 means different from the byte at "bytes completed" on.
Outcome compared(const std::optional<Stop>& stop, const Descriptor& descriptor) {
    Outcome out = outcome_of(stop, descriptor.size);
    out.record.result = stop && stop->why == Stop::Why::found;
    judge(out, descriptor, descriptor.field<std::uint8_t>(at::expected_result), 1);
    return out;
}

} // namespace

void CpuCopier::copy(std::byte* to, const std::byte* from, std::size_t size) noexcept { std::memmove(to, from, size); }

Outcome failed(Status status) {
    Outcome out;
    out.record.status = static_cast<std::uint8_t>(status);
    return out;
}

Outcome outcome_of(const std::optional<Stop>& stop, std::uint64_t size) {
    Outcome out = failed(Status::success);
    out.record.bytes_completed = static_cast<std::uint32_t>(stop ? stop->done : size);
    if (!stop || stop->why == Stop::Why::found)
        return out;
    out.cancelled = stop->why == Stop::Why::cancelled;
    out.record.status = static_cast<std::uint8_t>(Status::page_fault);
    if (stop->write)
        out.record.status |= status_write_fault;
    out.record.fault_address = stop->address;
    return out;
}

void judge(Outcome& outcome, const Descriptor& descriptor, std::uint8_t expected, std::uint8_t mask) {
    if (outcome.succeeded() && descriptor.has(flag::check_result) &&
        (outcome.record.result & mask) != (expected & mask))
        outcome.record.status = static_cast<std::uint8_t>(Status::success_false_predicate);
}

Outcome Operation::run(const Descriptor& descriptor) {
    switch (descriptor.opcode()) {
    case Opcode::noop:
        return failed(Status::success);
    case Opcode::drain:
        return drain(descriptor);
    case Opcode::memmove:
        return memmove(descriptor);
    case Opcode::fill:
        return fill(descriptor);
    case Opcode::compare:
        return compare(descriptor);
    case Opcode::compare_pattern:
        return compare_pattern(descriptor);
    case Opcode::create_delta:
        return create_delta(descriptor);
    case Opcode::apply_delta:
        return apply_delta(descriptor);
    case Opcode::dualcast:
        return dualcast(descriptor);
    case Opcode::crc:
    case Opcode::copy_crc:
        return crc(descriptor);
    case Opcode::batch:
        break;
    }
    return failed(Status::bad_opcode);
}

/// The queue has been drained already; what remains is to read the addresses back.
Outcome Operation::drain(const Descriptor& descriptor) {
    if (!descriptor.has(flag::readback))
        return failed(Status::success);
    for (const std::uint64_t address : {std::uint64_t{descriptor.source}, std::uint64_t{descriptor.destination}}) {
        std::byte read{};
        const auto hold = memory_.hold();
        if (address != 0 && !memory_.read(Iova{address}, std::span{&read, 1})) {
            Outcome out = failed(Status::readback_fault);
            out.record.fault_address = address;
            return out;
        }
    }
    return failed(Status::success);
}

void Operation::copy_pieces(std::vector<iovec>& source, std::vector<iovec>& destination, std::size_t bytes) {
    Pieces from{source}, to{destination};
    for (std::size_t left = bytes; left != 0;) {
        const auto read = from.peek(left);
        const auto written = to.peek(read.size());
        copier_.copy(written.data(), read.data(), written.size());
        from.skip(written.size());
        to.skip(written.size());
        left -= written.size();
    }
}

Outcome Operation::memmove(const Descriptor& descriptor) {
    const std::uint64_t source = descriptor.source, destination = descriptor.destination, size = descriptor.size;
    if (destination > source && destination - source < size) {
        Outcome out = outcome_of(transfer_.copy_backward(source, destination, size), size);
        out.record.result = out.succeeded() ? 0 : 1; // 1: the completed bytes are the last ones
        return out;
    }
    const std::array operands{Operand{source, Access::read}, Operand{destination, Access::write}};
    return outcome_of(
        transfer_.forward(operands, size,
                          [&](auto pieces, std::size_t bytes, std::uint64_t) -> std::optional<std::size_t> {
                              copy_pieces(pieces[0], pieces[1], bytes);
                              return std::nullopt;
                          }),
        size);
}

Outcome Operation::fill(const Descriptor& descriptor) {
    const Pattern pattern{descriptor.source};
    const std::array operands{Operand{descriptor.destination, Access::write}};
    return outcome_of(
        transfer_.forward(operands, descriptor.size,
                          [&](auto pieces, std::size_t bytes, std::uint64_t done) -> std::optional<std::size_t> {
                              Pieces to{pieces[0]};
                              for (std::size_t at = 0; at < bytes;) {
                                  const auto part = pattern.from(done + at, to.peek(bytes - at).size());
                                  std::memcpy(to.peek(part.size()).data(), part.data(), part.size());
                                  to.skip(part.size());
                                  at += part.size();
                              }
                              return std::nullopt;
                          }),
        descriptor.size);
}

Outcome Operation::compare(const Descriptor& descriptor) {
    const std::array operands{Operand{descriptor.source, Access::read}, Operand{descriptor.destination, Access::read}};
    const auto stop = transfer_.forward(
        operands, descriptor.size, [&](auto pieces, std::size_t bytes, std::uint64_t) -> std::optional<std::size_t> {
            Pieces one{pieces[0]}, other{pieces[1]};
            for (std::size_t at = 0; at < bytes;) {
                const auto first = one.peek(bytes - at);
                const auto second = other.peek(first.size());
                const auto equal = first_difference(first.first(second.size()), second);
                if (equal < second.size())
                    return at + equal;
                one.skip(equal);
                other.skip(equal);
                at += equal;
            }
            return std::nullopt;
        });
    return compared(stop, descriptor);
}

Outcome Operation::compare_pattern(const Descriptor& descriptor) {
    const Pattern pattern{descriptor.destination};
    const std::array operands{Operand{descriptor.source, Access::read}};
    const auto stop =
        transfer_.forward(operands, descriptor.size,
                          [&](auto pieces, std::size_t bytes, std::uint64_t done) -> std::optional<std::size_t> {
                              Pieces from{pieces[0]};
                              for (std::size_t at = 0; at < bytes;) {
                                  const auto expected = pattern.from(done + at, from.peek(bytes - at).size());
                                  const auto equal = first_difference(from.peek(expected.size()), expected);
                                  if (equal < expected.size())
                                      return at + equal;
                                  from.skip(equal);
                                  at += equal;
                              }
                              return std::nullopt;
                          });
    return compared(stop, descriptor);
}

Outcome Operation::dualcast(const Descriptor& descriptor) {
    const std::array operands{Operand{descriptor.source, Access::read}, Operand{descriptor.destination, Access::write},
                              Operand{descriptor.field<std::uint64_t>(at::destination2), Access::write}};
    return outcome_of(
        transfer_.forward(operands, descriptor.size,
                          [&](auto pieces, std::size_t bytes, std::uint64_t) -> std::optional<std::size_t> {
                              copy_pieces(pieces[0], pieces[1], bytes);
                              copy_pieces(pieces[0], pieces[2], bytes);
                              return std::nullopt;
                          }),
        descriptor.size);
}

/// CRC GENERATION and COPY WITH CRC. By default seed and result are inverted and bits are reflected, as in iSCSI.
Outcome Operation::crc(const Descriptor& descriptor) {
    std::uint32_t seed = descriptor.field<std::uint32_t>(at::crc_seed);
    if (descriptor.has(flag::read_seed)) {
        const auto hold = memory_.hold();
        const std::uint64_t from = descriptor.field<std::uint64_t>(at::crc_seed_address);
        const auto read = memory_.read<Le32>(Iova{from});
        if (!read)
            return outcome_of(Stop{Stop::Why::fault, 0, from, false}, descriptor.size);
        seed = *read;
    }
    const bool invert = !descriptor.has(flag::no_inversion);
    const bool reflect = !descriptor.has(flag::no_reflection);
    std::uint32_t state = invert ? ~seed : seed;
    const bool copies = descriptor.opcode() == Opcode::copy_crc;
    const std::array operands{Operand{descriptor.source, Access::read}, Operand{descriptor.destination, Access::write}};
    const auto stop =
        transfer_.forward(std::span{operands}.first(copies ? 2 : 1), descriptor.size,
                          [&](auto pieces, std::size_t bytes, std::uint64_t) -> std::optional<std::size_t> {
                              Pieces from{pieces[0]}, to{pieces[1]};
                              for (std::size_t left = bytes; left != 0;) {
                                  auto read = from.peek(left);
                                  if (copies) {
                                      const auto written = to.peek(read.size());
                                      copier_.copy(written.data(), read.data(), written.size());
                                      // The CRC is of what was written, because the source may change meanwhile.
                                      read = written;
                                      to.skip(written.size());
                                  }
                                  state = reflect ? crc32c(state, read) : crc32c_unreflected(state, read);
                                  from.skip(read.size());
                                  left -= read.size();
                              }
                              return std::nullopt;
                          });
    Outcome out = outcome_of(stop, descriptor.size);
    out.record.specific = invert ? ~state : reverse_bits(state);
    return out;
}

} // namespace inox::devices::dsa
