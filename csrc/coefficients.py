"""Prints the polynomial coefficients of the kernels, with the relative error that each reaches.

Chebyshev interpolation in 60 digits, then rounding to the type. It is within a factor of two of the minimax
polynomial, far below the rounding errors of the evaluation. Run: python csrc/coefficients.py
"""

from mpmath import atanh, chebyfit, exp, log, mp, mpf, polyval, sqrt

mp.dps = 60


def exp_quotient(r):
    """(exp(r) - 1 - r) / r**2, by its series near 0 where the closed form cancels."""
    if abs(r) > mpf("1e-3"):
        return (exp(r) - 1 - r) / r**2
    return sum(r**j / mp.factorial(j + 2) for j in range(20))


def log_quotient(z):
    """(2 atanh(s) / s - 2) / s**2 with z = s**2."""
    if z > mpf("1e-6"):
        s = sqrt(z)
        return (2 * atanh(s) / s - 2) / z
    return sum(2 * z**j / (2 * j + 3) for j in range(12))


def show(name, function, interval, degree, ctype, round_to, final, wider=1):
    """An error that counts little near 0 is best spread by interpolation on an interval that is a little wider."""
    low_first = [round_to(c) for c in reversed(chebyfit(function, [wider * end for end in interval], degree + 1))]
    points = [interval[0] + (interval[1] - interval[0]) * mpf(i) / 2000 for i in range(2001)]
    worst = max(final(x, polyval([mpf(c) for c in reversed(low_first)], x)) for x in points)
    print(f"// {name}: degree {degree}, relative error 2^{float(log(worst, 2)):.1f}")
    print(f"{{{', '.join(ctype(c) for c in low_first)}}}\n")


def as_float(c):
    import numpy

    return float(numpy.float32(float(c)))


half_ln2 = log(2) / 2 * mpf("1.0001")
exp_error = lambda r, q: abs((1 + r + r * r * q) / exp(r) - 1)  # noqa: E731
log_error = lambda z, q: abs((2 + z * q) / (2 + z * log_quotient(z)) - 1)  # noqa: E731
hexadecimal = lambda c: c.hex()  # noqa: E731
show("exp float", exp_quotient, [-half_ln2, half_ln2], 4, lambda c: c.hex() + "f", as_float, exp_error)
show("exp double", exp_quotient, [-half_ln2, half_ln2], 9, hexadecimal, float, exp_error)
log_end = ((sqrt(2) - 1) / (sqrt(2) + 1)) ** 2 * mpf("1.0001")
show("log double", log_quotient, [mpf(0), log_end], 6, hexadecimal, float, log_error)
atanh_end = mpf(1) / 9 * mpf("1.0001")
show("atanh float", log_quotient, [mpf(0), atanh_end], 4, lambda c: c.hex() + "f", as_float, log_error)
show("atanh double", log_quotient, [mpf(0), atanh_end], 9, hexadecimal, float, log_error)


def exp_by_steps():
    """Eighth powers of 2 times the leader as floats, how near they are, and ln 2 / 8 in two parts."""
    import numpy

    leader = mpf(float.fromhex("0x1.16747cp+0"))
    exact = [leader * mpf(2) ** (mpf(j) / 8) for j in range(8)]
    powers = [as_float(t) for t in exact]
    bits = [(int(numpy.float32(t).view(numpy.uint32)) + (48 << 23) - (j << 20)) % 2**32 for j, t in enumerate(powers)]
    furthest = max(abs(mpf(t) / e - 1) for t, e in zip(powers, exact, strict=True))
    print(f"// bits of the powers times 2^48, less j << 20; within 2^{float(log(furthest, 2)):.1f}")
    print("{" + ", ".join(hex(b) for b in bits) + "}")
    step = log(2) / 8
    for digits in (24, 11):
        high = as_float(numpy.ldexp(float(round(step * mpf(2) ** (digits + 3))), -(digits + 3)))
        print(
            f"// ln 2 / 8, the first part of at most {digits} bits: {high.hex()}f, {as_float(step - mpf(high)).hex()}f"
        )


step = log(2) / 8 * mpf("1.001")
show("exp float by steps", exp_quotient, [-step, step], 2, lambda c: c.hex() + "f", as_float, exp_error, mpf("1.08"))
exp_by_steps()


def power_quotient(r):
    """(2**r - 1) / r, by its series near 0 where the closed form cancels."""
    if abs(r) > mpf("1e-3"):
        return (2**r - 1) / r
    return sum(log(2) ** (j + 1) * r**j / mp.factorial(j + 1) for j in range(20))


half = mpf("0.5001")
power_error = lambda r, q: abs((1 + r * q) / 2**r - 1)  # noqa: E731
show("power of 2 float", power_quotient, [-half, half], 4, lambda c: c.hex() + "f", as_float, power_error)
show("power of 2 double", power_quotient, [-half, half], 10, hexadecimal, float, power_error)
