package feed

import "strconv"

// Drawing is in whole tenths of a pixel, so that every machine writes the same bytes.

type point struct{ x, y int64 }

func (p point) plus(q point) point  { return point{p.x + q.x, p.y + q.y} }
func (p point) minus(q point) point { return point{p.x - q.x, p.y - q.y} }

// scaled returns p made length long; the zero point stays.
func (p point) scaled(length int64) point {
	n := root(p.x*p.x + p.y*p.y)
	if n == 0 {
		return point{}
	}
	return point{p.x * length / n, p.y * length / n}
}

// turned returns p a quarter round.
func (p point) turned() point { return point{-p.y, p.x} }

// root is the whole square root, by Newton's steps from above.
func root(n int64) int64 {
	if n < 2 {
		return max(n, 0)
	}
	r := n
	for next := (r + 1) / 2; next < r; next = (r + n/r) / 2 {
		r = next
	}
	return r
}

const sineOne = 10_000

// sine of thousandths of a degree, times sineOne, by the fraction of Bhaskara I; it is off by at most 17.
func sine(angle int64) int64 {
	const half = 180_000
	angle %= 2 * half
	if angle < 0 {
		angle += 2 * half
	}
	sign := int64(1)
	if angle >= half {
		angle, sign = angle-half, -1
	}
	p := angle * (half - angle)
	return sign * 4 * p * sineOne / (40_500_000_000 - p)
}

// around places i of n on a circle, the first at the top, clockwise.
func around(centre point, radius int64, i, n int) point {
	angle := int64(i) * 360_000 / int64(max(n, 1))
	return point{centre.x + radius*sine(angle)/sineOne, centre.y - radius*sine(angle+90_000)/sineOne}
}

// tenths writes a coordinate.
func tenths(v int64) string {
	sign := ""
	if v < 0 {
		sign, v = "-", -v
	}
	s := sign + strconv.FormatInt(v/10, 10)
	if v%10 > 0 {
		s += "." + strconv.FormatInt(v%10, 10)
	}
	return s
}

func (p point) String() string { return tenths(p.x) + " " + tenths(p.y) }
