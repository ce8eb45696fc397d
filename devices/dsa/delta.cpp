// SPDX-License-Identifier: Apache-2.0
// CREATE DELTA and APPLY DELTA.
#include <algorithm>
#include <cstring>

#include "devices/dsa/operations.hpp"

namespace inox::devices::dsa {
namespace {

// Results of CREATE DELTA.
constexpr std::uint8_t delta_differs = 1;
constexpr std::uint8_t delta_full = 2; ///< the record has no room for the next difference

/// Takes 8 bytes, which may lie in two pieces.
std::uint64_t take_word(Pieces& from) {
    std::array<std::byte, 8> bytes;
    for (std::size_t at = 0; at < bytes.size();) {
        const auto part = from.peek(bytes.size() - at);
        std::memcpy(bytes.data() + at, part.data(), part.size());
        from.skip(part.size());
        at += part.size();
    }
    return load_le(bytes);
}

std::array<std::byte, delta_entry_size> entry(std::uint64_t offset, std::uint64_t data) {
    std::array<std::byte, delta_entry_size> bytes;
    store_le(std::span{bytes}.first(2), offset / 8);
    store_le(std::span{bytes}.subspan(2), data);
    return bytes;
}

} // namespace

Outcome Operation::create_delta(const Descriptor& descriptor) {
    const auto record = descriptor.field<std::uint64_t>(at::delta_address);
    const std::uint32_t room = descriptor.field<std::uint32_t>(at::max_delta_size) / delta_entry_size;
    std::vector<std::byte> entries;
    const std::array operands{Operand{descriptor.source, Access::read}, Operand{descriptor.destination, Access::read}};
    const auto stop =
        transfer_.forward(operands, descriptor.size,
                          [&](auto pieces, std::size_t bytes, std::uint64_t done) -> std::optional<std::size_t> {
                              Pieces one{pieces[0]}, other{pieces[1]};
                              // There is no fault inside a word: operands are aligned, and so are pages.
                              for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
                                  const std::uint64_t first = take_word(one), second = take_word(other);
                                  if (first == second)
                                      continue;
                                  if (entries.size() / delta_entry_size == room)
                                      return at;
                                  const auto added = entry(done + at, second);
                                  entries.insert(entries.end(), added.begin(), added.end());
                              }
                              return std::nullopt;
                          });
    Outcome out = outcome_of(stop, descriptor.size);
    if (out.cancelled)
        return out;
    // What is known so far is written, even after a fault of a source.
    const std::array target{Operand{record, Access::write}};
    const auto write_stop = transfer_.forward(
        target, entries.size(), [&](auto pieces, std::size_t bytes, std::uint64_t done) -> std::optional<std::size_t> {
            Pieces to{pieces[0]};
            for (std::size_t at = 0; at < bytes;) {
                const auto part = to.peek(bytes - at);
                std::memcpy(part.data(), entries.data() + done + at, part.size());
                to.skip(part.size());
                at += part.size();
            }
            return std::nullopt;
        });
    if (write_stop)
        return outcome_of(Stop{write_stop->why, 0, write_stop->address, true}, descriptor.size);
    out.record.specific = entries.size();
    const bool full = stop && stop->why == Stop::Why::found;
    out.record.result = full ? delta_full : entries.empty() ? std::uint8_t{0} : delta_differs;
    judge(out, descriptor, descriptor.field<std::uint8_t>(at::expected_result),
          descriptor.field<std::uint8_t>(at::expected_mask));
    return out;
}

Outcome Operation::apply_delta(const Descriptor& descriptor) {
    const std::uint32_t record_size = descriptor.field<std::uint32_t>(at::delta_size);
    std::vector<std::byte> entries(
        record_size < max_delta_source / 8 * delta_entry_size ? record_size : max_delta_source / 8 * delta_entry_size);
    if (record_size > entries.size())
        return failed(Status::delta_size); // a record with more entries than there are offsets
    const std::array source{Operand{descriptor.source, Access::read}};
    const auto stop = transfer_.forward(
        source, entries.size(), [&](auto pieces, std::size_t bytes, std::uint64_t done) -> std::optional<std::size_t> {
            Pieces from{pieces[0]};
            for (std::size_t at = 0; at < bytes;) {
                const auto part = from.peek(bytes - at);
                std::memcpy(entries.data() + done + at, part.data(), part.size());
                from.skip(part.size());
                at += part.size();
            }
            return std::nullopt;
        });
    if (stop)
        return outcome_of(Stop{stop->why, 0, stop->address, false}, descriptor.size);
    const std::span bytes{entries};
    std::uint64_t next = 0;
    for (std::size_t at = 0; at < bytes.size(); at += delta_entry_size) {
        const std::uint64_t offset = load_le<std::uint16_t>(bytes.subspan(at, 2)) * std::uint64_t{8};
        Outcome out = failed(Status::delta_offset_order);
        out.record.bytes_completed = static_cast<std::uint32_t>(at);
        if (offset < next)
            return out;
        out.record.status = static_cast<std::uint8_t>(Status::delta_offset_range);
        if (offset >= descriptor.size)
            return out;
        const auto hold = memory_.hold();
        const std::uint64_t to = descriptor.destination + offset;
        if (!memory_.write(Iova{to}, bytes.subspan(at + 2, 8)))
            return outcome_of(Stop{Stop::Why::fault, at, to, true}, descriptor.size);
        next = offset + 8;
    }
    return outcome_of(std::nullopt, record_size);
}

} // namespace inox::devices::dsa
