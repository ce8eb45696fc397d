// SPDX-License-Identifier: GPL-2.0
/*
 * inox_ud: KVM shows MOVDIR64B, ENQCMD and ENQCMDS to user space where the CPU lacks them. For the lab's machine only.
 *
 * The lab's CPU (QEMU's TCG) does not know these instructions: they raise #UD in a guest. KVM intercepts #UD and asks its
 * emulator, which does not know them either; with EMULTYPE_TRAP_UD that puts the #UD back into the guest. Without that
 * flag, and with KVM_CAP_EXIT_ON_EMULATION_FAILURE on, the same failure is KVM_EXIT_INTERNAL_ERROR with the bytes: what a
 * KVM with VMX or SVM tells a VMM about an instruction that the CPU has, at an address it may not write to.
 *
 * Only these three opcodes go that way, in every ring. Every other #UD stays what it is (UD2 of WARN and BUG, an unknown
 * instruction of a program).
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/module.h>

/* KVM's own headers (arch/x86/kvm) are not for modules; 7.x exports these functions to KVM's own modules only */
struct x86_exception { u64 room[8]; };		/* larger than KVM's, and never read here */
static int (*kvm_read)(struct kvm_vcpu *vcpu, gva_t addr, void *val, unsigned int bytes, struct x86_exception *exception);
static unsigned long (*kvm_linear_rip)(struct kvm_vcpu *vcpu);
static int (*kvm_emulate)(struct kvm_vcpu *vcpu, int emulation_type);
#ifndef EMULTYPE_TRAP_UD
#define EMULTYPE_TRAP_UD (1 << 1)
#endif

static atomic64_t passed, others;

static int shown(char *to, const struct kernel_param *param)
{
	return sysfs_emit(to, "%lld\n", atomic64_read(param->arg));
}
static const struct kernel_param_ops counter = { .get = shown };
module_param_cb(passed, &counter, &passed, 0444);
MODULE_PARM_DESC(passed, "#UD exceptions that user space may see");
module_param_cb(others, &counter, &others, 0444);
MODULE_PARM_DESC(others, "#UD exceptions that KVM saw as ever");

/* One byte at a time: an instruction may end right before a page that is not there */
static bool next(struct kvm_vcpu *vcpu, unsigned long *at, u8 *byte)
{
	struct x86_exception ignored;

	return kvm_read(vcpu, (*at)++, byte, 1, &ignored) == 0 /* X86EMUL_CONTINUE */;
}

/* [prefixes] 66|F2|F3 [prefixes, REX] 0F 38 F8 */
static bool is_enqueue(struct kvm_vcpu *vcpu)
{
	unsigned long at = kvm_linear_rip(vcpu);
	bool mandatory = false;
	u8 byte;
	int i;

	for (i = 0; i < 12; i++) {
		if (!next(vcpu, &at, &byte))
			return false;
		switch (byte) {
		case 0x66: case 0xf2: case 0xf3:
			mandatory = true;
			continue;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:	/* segments */
		case 0x67:								/* address size */
		case 0xf0:								/* LOCK: the VMM raises its #UD */
			continue;
		}
		break;
	}
	if ((byte & 0xf0) == 0x40 && !next(vcpu, &at, &byte))				/* REX */
		return false;
	return mandatory && byte == 0x0f && next(vcpu, &at, &byte) && byte == 0x38 && next(vcpu, &at, &byte) && byte == 0xf8;
}

/* In handle_ud()'s place, called as it was called: sleeping is allowed here, unlike in the probe */
static int own_handle_ud(struct kvm_vcpu *vcpu)
{
	bool pass = is_enqueue(vcpu);

	atomic64_inc(pass ? &passed : &others);
	return kvm_emulate(vcpu, pass ? 0 : EMULTYPE_TRAP_UD);
}

static int redirect(struct kprobe *probe, struct pt_regs *regs)
{
	regs->ip = (unsigned long)own_handle_ud;
	return 1;
}

/* Makes the probe one that may change the instruction pointer */
static void after(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe probe = {
	.pre_handler = redirect,
	.post_handler = after,
};

/* NAME is that of a function in the module kvm, or in a kernel that has KVM built in (or knows no "module:") */
static int set_probe(struct kprobe *at, const char *name)
{
	int error;

	at->symbol_name = name;
	error = register_kprobe(at);
	if (error) {
		at->symbol_name = strchr(name, ':') + 1;
		at->addr = NULL;
		at->flags = 0;
		error = register_kprobe(at);
	}
	return error;
}

static void *address_of(const char *name)
{
	struct kprobe at = {};

	if (set_probe(&at, name)) {
		pr_err("inox_ud: no %s\n", name);
		return NULL;
	}
	unregister_kprobe(&at);
	return at.addr;
}

static int __init inox_ud_init(void)
{
	kvm_read = address_of("kvm:kvm_read_guest_virt");
	kvm_linear_rip = address_of("kvm:kvm_get_linear_rip");
	kvm_emulate = address_of("kvm:kvm_emulate_instruction");
	if (!kvm_read || !kvm_linear_rip || !kvm_emulate)
		return -ENOENT;
	return set_probe(&probe, "kvm:handle_ud");
}

static void __exit inox_ud_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(inox_ud_init);
module_exit(inox_ud_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KVM shows MOVDIR64B, ENQCMD and ENQCMDS to user space where the CPU lacks them");
