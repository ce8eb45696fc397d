// SPDX-License-Identifier: Apache-2.0
// Bytes behind an instruction pointer: first byte the code size, then the instruction. What is accepted ends within the
// bytes, has the opcode where its length says, and does not depend on what follows it.
#include <algorithm>
#include <array>
#include <vector>

#include "iommu/pasid/enqcmd_decode.hpp"
#include "tests/fuzz/input.hpp"

using inox::fuzz::require;

using namespace inox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const auto code = static_cast<iommu::CodeSize>(data[0] % 3);
    const std::vector<std::uint8_t> bytes(data + 1, data + size);
    const auto found = iommu::decode_enqueue(bytes, code);
    if (!found)
        return 0;
    require(found->length >= 5 && found->length <= iommu::longest_instruction && found->length <= bytes.size());
    const std::span whole{bytes};
    constexpr std::array<std::uint8_t, 3> opcode{0x0f, 0x38, 0xf8};
    const auto own = whole.first(found->length);
    require(!std::ranges::search(own, opcode).empty());
    require(iommu::decode_enqueue(own, code) == found);
    require(!iommu::decode_enqueue(own.first(own.size() - 1U), code));
    const unsigned registers = code == iommu::CodeSize::bits64 ? 16 : 8;
    require(found->destination < registers && found->shift < 4);
    for (const auto number : {found->base, found->index})
        require(number == iommu::EnqueueInstruction::none || number < registers);
    require(!found->rip_relative || code == iommu::CodeSize::bits64);
    return 0;
}
